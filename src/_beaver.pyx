# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""The border to the protocol steps: what dealer and holders compute in one round.

Addresses and lengths in, as in `_ring`; one call does a step for every holder that
this process hosts.  The kernels' own files (src/c/*.inc.h) say what is computed.
"""

from pysmpc._ring cimport (
    Keys, fss, product_combine, product_deal, product_masks, product_part, psm_divisor, psm_factor, psm_fss, psm_product, ptrdiff_t, size_t,
    steps, u64,
)


cdef class Divisor:
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

    @property
    def offset(self) -> int:
        return self.d.offset

    @property
    def short(self) -> bool:
        """Whether jumps are dealt in 40 bits (src/c/truncate.inc.h)."""
        return 0 < self.d.power <= 40


def truncate_deal(Keys keys, u64 base, Divisor d not None, size_t corrections, size_t n, size_t owed=0, u64 factor=1):
    with nogil:
        steps.truncate_deal(&keys.h, base, d.d, <const u64 *>owed, factor, <u64 *>corrections, n)


def truncate_mask(Keys keys, u64 base, u64 offset, size_t z, size_t out, size_t n, u64 factor=1, unsigned halves=0):
    with nogil:
        steps.truncate_mask(&keys.h, base, offset, factor, <const u64 *>z, <u64 *>out, halves, n)


def truncate_finish(Keys keys, u64 base, Divisor d not None, size_t c, size_t corrections, size_t out, size_t n, size_t x=0, unsigned halves=0):
    with nogil:
        steps.truncate_finish(&keys.h, base, d.d, <const u64 *>c, halves, <const u64 *>corrections, <const u64 *>x, <u64 *>out, n)


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


def compare_deal(Keys keys, u64 base, int nodes, size_t corrections, size_t n, bint known=False, size_t masks=0):
    with nogil:
        steps.compare_deal(&keys.h, base, nodes, known, <const u64 *>masks, <u64 *>corrections, n)


def compare_chunks(Keys keys, u64 base, int nodes, size_t corrections, size_t c, u64 offset, size_t state, size_t message, size_t n, known=None):
    cdef u64 chunks = base if known is None else known
    with nogil:
        steps.compare_chunks(&keys.h, base, chunks, nodes, <const u64 *>corrections, <const u64 *>c, offset, <u64 *>state, <u64 *>message, n)


def compare_nodes(Keys keys, u64 base, int nodes, size_t corrections, size_t opened, size_t state, size_t sign, size_t message, size_t n, bint known=False):
    with nogil:
        steps.compare_nodes(&keys.h, base, nodes, known, <const u64 *>corrections, <const u64 *>opened, <const u64 *>state, <u64 *>sign, <u64 *>message, n)


def compare_root(Keys keys, u64 base, int nodes, size_t corrections, size_t opened, size_t sign, size_t message, size_t n, bint known=False):
    with nogil:
        steps.compare_root(&keys.h, base, nodes, known, <const u64 *>corrections, <const u64 *>opened, <const u64 *>sign, <u64 *>message, n)


def bit_deal(Keys keys, u64 rho, u64 stream, size_t corrections, size_t n):
    with nogil:
        steps.bit_deal(&keys.h, rho, stream, <u64 *>corrections, n)


def bit_share(Keys keys, size_t beta, size_t rho, size_t out, size_t n):
    with nogil:
        steps.bit_share(&keys.h, <const u64 *>beta, <const u64 *>rho, <u64 *>out, n)


def select_deal(Keys keys, u64 base, u64 rho, Divisor d, size_t corrections, size_t n):
    cdef const psm_divisor *divisor = NULL if d is None else &d.d
    with nogil:
        steps.select_deal(&keys.h, base, rho, divisor, <u64 *>corrections, n)


def select_finish(Keys keys, u64 base, Divisor d, bint flip, size_t c, size_t beta, size_t rho, size_t corrections, size_t out, size_t n):
    cdef const psm_divisor *divisor = NULL if d is None else &d.d
    with nogil:
        steps.select_finish(&keys.h, base, divisor, flip, <const u64 *>c, <const u64 *>beta, <const u64 *>rho, <const u64 *>corrections, <u64 *>out, n)


def beaver_mul(Keys keys, size_t d, size_t y, size_t a, size_t e, size_t z, size_t n):
    with nogil:
        steps.beaver_mul(&keys.h, <const u64 *>d, <const u64 *>y, <const u64 *>a, <const u64 *>e, <u64 *>z, n)


def beaver_square(Keys keys, size_t d, size_t x, size_t a, size_t z, size_t n):
    with nogil:
        steps.beaver_square(&keys.h, <const u64 *>d, <const u64 *>x, <const u64 *>a, <u64 *>z, n)


cdef class Function:
    """A point function (or, with less, a comparison) on 1 to 64 bits with 1 to 4 words of value."""

    cdef psm_fss f

    def __cinit__(self, unsigned bits, unsigned words, bint less):
        if not 1 <= bits <= 64 or not 1 <= words <= 4:
            raise ValueError(f"keys are for 1 to 64 bits and 1 to 4 words, not {bits} and {words}")
        self.f.bits, self.f.words, self.f.less = bits, words, less

    @property
    def bits(self) -> int:
        return self.f.bits

    @property
    def words(self) -> int:
        return self.f.words

    @property
    def key_words(self) -> int:
        return fss.key_words(self.f)


def fss_deal(Keys keys, u64 base, Function f not None, size_t alpha, size_t values, size_t others, size_t n, size_t first, size_t last, size_t key):
    with nogil:
        fss.deal(&keys.h, base, f.f, <const u64 *>alpha, <const u64 *>values, <const u64 *>others, n, first, last, <u64 *>key)


def fss_eval(Keys keys, u64 base, Function f not None, size_t key, size_t x, u64 shift, size_t n, size_t first, size_t last, size_t out):
    with nogil:
        fss.eval(&keys.h, base, f.f, <const u64 *>key, <const u64 *>x, shift, n, first, last, <u64 *>out)


def fss_bits_words(Function f not None, size_t n):
    return fss.bits_words(f.f.bits, n)


def fss_bits_deal(Keys keys, u64 mask, u64 base, Function f not None, size_t first, size_t last, size_t key):
    with nogil:
        fss.bits_deal(&keys.h, mask, base, f.f, first, last, <u64 *>key)


def fss_bits_eval(Keys keys, u64 base, Function f not None, size_t key, size_t x, u64 shift, size_t n, size_t first, size_t last, size_t out):
    with nogil:
        fss.bits_eval(&keys.h, base, f.f, <const u64 *>key, <const u64 *>x, shift, n, first, last, <u64 *>out)


cdef class Product:
    """A matrix product of two secrets: strides, and one offset a batch entry.

    x and y: (address of shares, address of opening, stream of the mask, words of the
    body, row stride, column stride, addresses of offsets, rows, columns, map, runs
    of rows and of columns, words of the map).
    """

    cdef psm_product p

    def __cinit__(self, tuple x, tuple y, size_t batch, size_t m, size_t n, size_t k):
        fill(&self.p.x, x)
        fill(&self.p.y, y)
        self.p.batch, self.p.m, self.p.n, self.p.k = batch, m, n, k

    def deal(self, Keys keys not None, u64 stream, size_t corrections):
        cdef int failed
        with nogil:
            failed = product_deal(&keys.h, &self.p, stream, <u64 *>corrections)
        if failed:
            raise MemoryError

    def combine(self, Keys keys not None, u64 stream, size_t corrections, size_t out):
        cdef int failed
        with nogil:
            failed = product_combine(&keys.h, &self.p, stream, <const u64 *>corrections, <u64 *>out)
        if failed:
            raise MemoryError

    def masks(self, Keys keys not None, size_t out):
        cdef int failed
        with nogil:
            failed = product_masks(&keys.h, &self.p, <u64 *>out)
        if failed:
            raise MemoryError

    def part(self, Keys keys not None, size_t out):
        cdef int failed
        with nogil:
            failed = product_part(&keys.h, &self.p, <u64 *>out)
        if failed:
            raise MemoryError


cdef void fill(psm_factor *f, tuple x):
    f.shares = <const u64 *><size_t>x[0]
    f.opened = <const u64 *><size_t>x[1]
    f.stream = x[2]
    f.n = x[3]
    f.row = x[4]
    f.col = x[5]
    f.offsets = <const ptrdiff_t *><size_t>x[6]
    f.rows = <const ptrdiff_t *><size_t>x[7]
    f.cols = <const ptrdiff_t *><size_t>x[8]
    f.map = <const ptrdiff_t *><size_t>x[9]
    f.row_run = x[10]
    f.col_run = x[11]
    f.size = x[12]
