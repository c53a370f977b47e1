# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""The border to the ring kernels: keys, and `launch`, the one door through which kernels are called.

src/c/launch.c has a line for each kernel, which says what its arguments are.  Here tensors become addresses,
after a check of their type; sizes are checked by who calls: `pysmpc.ring.z2k` and its continuations.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.long cimport PyLong_AsUnsignedLongLongMask
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from pysmpc._ring cimport (
    Constant, Keys, fss, psm_aes_key, psm_fss_steps, psm_steps, ptrdiff_t, size_t, steps, u64, uint8_t,
)

from torch import Tensor, int64

cdef extern from "ring.h" nogil:
    ctypedef struct psm_kernels:
        const char *name
        void (*aes_expand)(const uint8_t *key, psm_aes_key *round_keys) noexcept nogil
        void (*aes_blocks)(const psm_aes_key *key, const uint8_t *src, uint8_t *out, size_t blocks) noexcept nogil

cdef extern from "dispatch.h" nogil:
    const psm_kernels *psm_kernels_get()
    const psm_kernels *psm_kernels_by_name(const char *name)
    const char *psm_dispatch_error()
    const char *psm_dispatch_reason()
    const char *psm_dispatch_products()
    const char *const *psm_kernels_names()

cdef extern from "launch.h" nogil:
    ctypedef struct psm_entry:
        const char *name
        const char *declared
        int (*enter)(const u64 *slots) noexcept nogil
    const psm_entry psm_entries[]
    int psm_run(const psm_entry *const *entries, const size_t *starts, const u64 *slots, size_t count)

cdef extern from "epochs.h" nogil:
    int psm_epochs_follow(psm_aes_key *key, const uint8_t *digest)
    void psm_epochs_free(psm_aes_key *key)

cdef extern from "pool.h" nogil:
    void psm_set_threads(int threads)
    int psm_get_threads()

cdef extern from "rounds.h" nogil:
    const psm_steps psm_steps_table

cdef extern from "fss.h" nogil:
    const psm_fss_steps psm_fss_table

cdef extern from *:
    """
    #ifdef __clang__
    #define PSM_COMPILER "clang " __clang_version__
    #else
    #define PSM_COMPILER "gcc " __VERSION__
    #endif
    """
    const char *PSM_COMPILER

cdef const psm_kernels *K = psm_kernels_get()
if psm_dispatch_error() is not NULL:
    raise ImportError(psm_dispatch_error().decode())
steps = &psm_steps_table
fss = &psm_fss_table


def target() -> str:
    """Name of the kernels in use."""
    return K.name.decode()


def reason() -> str:
    """Why they were chosen."""
    return psm_dispatch_reason().decode()


def products() -> str:
    """How products of matrices are computed."""
    return psm_dispatch_products().decode()


def compiler() -> str:
    """What compiled the kernels."""
    return PSM_COMPILER.decode().strip()


def supported() -> list[str]:
    """Names of the targets that this machine can run, worst first."""
    cdef const char *const *names = psm_kernels_names()
    found = []
    while names[len(found)] is not NULL:
        found.append(names[len(found)].decode())
    return found


def set_threads(int n) -> None:
    psm_set_threads(n)


def get_threads() -> int:
    return psm_get_threads()


cdef extern from *:
    """
    #include <stdlib.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    static int psm_keep_memory(int bytes) {
        return mallopt(M_MMAP_THRESHOLD, bytes) && mallopt(M_TRIM_THRESHOLD, bytes);
    }
    #else
    static int psm_keep_memory(int bytes) { return (void)bytes, 0; }
    #endif
    """
    int psm_keep_memory(int bytes)


def keep_memory(int size) -> bool:
    """Let the C library keep up to `size` bytes that were freed; False where it cannot."""
    return bool(psm_keep_memory(size))


cdef class Keys:
    """Expanded AES-128 keys of `count` holders; wiped when dropped.

    lead, target: index of the leading and of the corrected holder, or -1.
    """

    def __cinit__(self, keys, ptrdiff_t lead=-1, ptrdiff_t target=-1):
        cdef bytes key
        cdef size_t i
        self.h.count = len(keys)
        self.h.lead = lead
        self.h.target = target
        self.h.keys = <psm_aes_key *>calloc(self.h.count + 1, sizeof(psm_aes_key))
        if self.h.keys is NULL:
            raise MemoryError
        for i, key in enumerate(keys):
            if len(key) != 16:
                raise ValueError(f"an AES-128 key has 16 bytes, not {len(key)}")
            K.aes_expand(<const uint8_t *><const char *>key, &self.h.keys[i])

    def __dealloc__(self):
        cdef size_t i
        if self.h.keys is not NULL:
            for i in range(self.h.count):
                if self.lenders is None:
                    psm_epochs_free(&self.h.keys[i])
            memset(self.h.keys, 0, (self.h.count + 1) * sizeof(psm_aes_key))
            free(self.h.keys)

    @property
    def count(self) -> int:
        return self.h.count

    def follow(self, bytes digest not None):
        """Begin an epoch: streams whose numbers are of it are drawn under a key derived from each key and 32 bytes.

        From the first epoch on, a key serves for nothing but to derive those of epochs.
        """
        cdef size_t i
        if len(digest) != 32 or self.lenders is not None:
            raise ValueError("an epoch follows from 32 bytes, at the owner of the keys")
        for i in range(self.h.count):
            if psm_epochs_follow(&self.h.keys[i], <const uint8_t *><const char *>digest):
                raise MemoryError("no room for the key of another epoch")


def aes_blocks(Keys keys, size_t index, blocks not None) -> bytes:
    """AES-128 of whole 16 byte blocks under key `index`."""
    cdef bytes source = bytes(blocks)
    cdef size_t size = len(source)
    if index >= keys.h.count or size % 16:
        raise ValueError("aes_blocks takes whole blocks and the index of a key")
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size)
    K.aes_blocks(&keys.h.keys[index], <const uint8_t *><const char *>source, <uint8_t *><char *>out, size // 16)
    return out


def pair_keys(Keys own, Keys after, tuple ranks):
    """Of two holders on a ring of keys, each of whom has its own and the next: the first key, for each hosted one."""
    cdef Keys out = Keys([bytes(16)] * <Py_ssize_t>own.h.count)
    cdef size_t row
    for row in range(own.h.count):
        out.h.keys[row] = (own if ranks[row] == 0 else after).h.keys[row]
    out.lenders = (own, after)  # of the keys of epochs
    return out


cdef extern from "securenn.h" nogil:
    size_t psm_securenn_words(size_t n)


def securenn_words(size_t n) -> int:
    """Words of a packed share of the bits of n elements."""
    return psm_securenn_words(n)


include "launch.pxi"
