# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""Public constants that the kernels of protocol steps are given, and the sizes of what they write.

The steps themselves are kernels of `_ring` (src/c/launch.c), each for every holder that this process hosts.
"""

from pysmpc._ring cimport Constant, fss, psm_divisor, psm_fss, size_t, steps


cdef class Divisor(Constant):
    """A public divisor 2 <= d < 2^62, with its reciprocal.

    offset: the largest multiple of d up to 2^62, the bound on a truncated |z|.
    """

    cdef psm_divisor d
    cdef readonly object value

    def __cinit__(self, value):
        if not 2 <= value < 1 << 62:
            raise ValueError(f"a divisor must be at least 2 and below 2**62, not {value}")
        self.value = value
        self.d = steps.divisor_make(value)
        self.data = &self.d

    def become(self, value):
        """Be another divisor from now on, for every call that was recorded with this one."""
        other = Divisor(value)
        self.value, self.d = value, (<Divisor>other).d

    @property
    def offset(self) -> int:
        return self.d.offset

    @property
    def short(self) -> bool:
        """Whether jumps are dealt in 40 bits (src/c/truncate.inc.h)."""
        return 0 < self.d.power <= 40


cdef class Function(Constant):
    """A point function (or, with less, a comparison) on 1 to 64 bits with 1 to 4 words of value."""

    cdef psm_fss f

    def __cinit__(self, unsigned bits, unsigned words, bint less):
        if not 1 <= bits <= 64 or not 1 <= words <= 4:
            raise ValueError(f"keys are for 1 to 64 bits and 1 to 4 words, not {bits} and {words}")
        self.f.bits, self.f.words, self.f.less = bits, words, less
        self.data, self.function = &self.f, True

    @property
    def bits(self) -> int:
        return self.f.bits

    @property
    def words(self) -> int:
        return self.f.words

    @property
    def key_words(self) -> int:
        return fss.key_words(self.f)


def compare_sizes(size_t n, int nodes, bint known=False) -> tuple[int, int, int, int, int]:
    """Words of state, of the three messages of a holder, and of corrections, for values of 16 * nodes bits.

    known: the chunk monomials are another comparison's, and not among the corrections.
    """
    cdef size_t chunks = 0 if known else steps.compare_corrections(nodes, 0, n)
    return (
        steps.compare_state(nodes, n),
        steps.compare_message(nodes, 0, n), steps.compare_message(nodes, 1, n), steps.compare_message(nodes, 2, n),
        chunks + steps.compare_corrections(nodes, 1, n) + steps.compare_corrections(nodes, 2, n),
    )


def fss_bits_words(Function f not None, size_t n) -> int:
    """Words of a key of bits for n elements, beside the salt."""
    return fss.bits_words(f.f.bits, n)
