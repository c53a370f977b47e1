# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""The border to the ring kernels: addresses and lengths in, no tensor logic.

Every address is that of an array of 64-bit words that the caller keeps alive; no
argument is checked here.  `pysmpc.ring` and `pysmpc.prg` check and call.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from pysmpc._ring cimport (
    Keys, fss, psm_aes_key, psm_fss_steps, psm_holders, psm_product, psm_steps, psm_view, product_combine, product_deal, product_masks,
    product_part, ptrdiff_t, size_t, steps, u64, uint8_t,
)


cdef extern from "ring.h" nogil:
    ctypedef struct psm_kernels:
        const char *name
        void (*aes_expand)(const uint8_t *key, psm_aes_key *round_keys) noexcept nogil
        void (*aes_blocks)(const psm_aes_key *key, const uint8_t *src, uint8_t *out, size_t blocks) noexcept nogil
        void (*mul)(const u64 *x, const u64 *y, u64 *out, size_t n) noexcept nogil
        void (*rows_xor)(const u64 *x, size_t rows, u64 *out, size_t n) noexcept nogil
        void (*rows_extremes)(const u64 *x, size_t rows, size_t n, u64 *out) noexcept nogil
        void (*pack_bits)(const u64 *x, u64 *out, size_t n) noexcept nogil
        void (*unpack_bits)(const u64 *packed, u64 *out, size_t n) noexcept nogil
        void (*decompose)(const u64 *x, u64 *planes, size_t n) noexcept nogil
        void (*truncate_local)(const u64 *z, unsigned f, int lead, u64 *out, size_t n) noexcept nogil

cdef extern from "dispatch.h" nogil:
    const psm_kernels *psm_kernels_get()
    const psm_kernels *psm_kernels_by_name(const char *name)
    const char *psm_dispatch_error()
    const char *psm_dispatch_reason()
    const char *psm_dispatch_products()
    const char *const *psm_kernels_names()

cdef extern from "matmul.h" nogil:
    int psm_matmul(size_t m, size_t n, size_t k, psm_view a, psm_view b, u64 *c, ptrdiff_t ldc, int accumulate)

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

cdef extern from "product.h" nogil:
    int psm_product_deal(const psm_holders *h, const psm_product *p, u64 stream, u64 *corrections) noexcept
    int psm_product_combine(const psm_holders *h, const psm_product *p, u64 stream, const u64 *corrections, u64 *out) noexcept
    int psm_product_masks(const psm_holders *h, const psm_product *p, u64 *out) noexcept
    int psm_product_part(const psm_holders *h, const psm_product *p, u64 *out) noexcept

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
product_deal = &psm_product_deal
product_combine = &psm_product_combine
product_masks = &psm_product_masks
product_part = &psm_product_part


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


def aes_blocks(Keys keys, size_t index, const uint8_t[::1] blocks not None) -> bytes:
    """AES-128 of whole 16 byte blocks under key `index`."""
    if index >= keys.h.count or blocks.shape[0] % 16:
        raise ValueError("aes_blocks takes whole blocks and the index of a key")
    out = bytearray(blocks.shape[0])
    cdef uint8_t[::1] view = out
    if blocks.shape[0]:
        K.aes_blocks(&keys.h.keys[index], &blocks[0], &view[0], blocks.shape[0] // 16)
    return bytes(out)


def draw(Keys keys, u64 stream, size_t corrections, size_t out, size_t n):
    with nogil:
        steps.draw(&keys.h, stream, <const u64 *>corrections, <u64 *>out, n)


def mask(Keys keys, u64 stream, size_t x, size_t out, size_t n):
    with nogil:
        steps.mask(&keys.h, stream, <const u64 *>x, <u64 *>out, n)


def deal_sum(Keys keys, u64 stream, size_t out, size_t n):
    with nogil:
        steps.deal_sum(&keys.h, stream, <u64 *>out, n)


def deal_take(Keys keys, u64 stream, size_t acc, size_t n):
    with nogil:
        steps.deal_take(&keys.h, stream, <u64 *>acc, n)


def add(size_t x, size_t y, size_t out, size_t n):
    with nogil:
        steps.add(<const u64 *>x, <const u64 *>y, <u64 *>out, n)


def sub(size_t x, size_t y, size_t out, size_t n):
    with nogil:
        steps.sub(<const u64 *>x, <const u64 *>y, <u64 *>out, n)


def mul(size_t x, size_t y, size_t out, size_t n):
    with nogil:
        K.mul(<const u64 *>x, <const u64 *>y, <u64 *>out, n)


def scale(size_t x, u64 k, size_t out, size_t n):
    with nogil:
        steps.scale(<const u64 *>x, k, <u64 *>out, n)


def rows_sum(size_t x, size_t rows, size_t out, size_t n):
    with nogil:
        steps.rows_sum(<const u64 *>x, rows, <u64 *>out, n)


def rows_xor(size_t x, size_t rows, size_t out, size_t n):
    with nogil:
        K.rows_xor(<const u64 *>x, rows, <u64 *>out, n)


def rows_extremes(size_t x, size_t rows, size_t n):
    """The largest and the smallest of the sums over rows, as signed words; n > 0."""
    cdef u64 found[2]
    with nogil:
        K.rows_extremes(<const u64 *>x, rows, n, found)
    return <int64_t>found[0], <int64_t>found[1]


def weighted(size_t factors, size_t words, size_t rows, size_t count, size_t out, size_t n):
    with nogil:
        steps.weighted(<const u64 *>factors, <const u64 *>words, rows, count, <u64 *>out, n)


def turns(size_t phase, size_t count, size_t out, size_t n):
    with nogil:
        steps.turns(<const u64 *>phase, count, <u64 *>out, n)


def powers_of_e(size_t x, size_t out, size_t n):
    with nogil:
        steps.powers_of_e(<const u64 *>x, <u64 *>out, n)


def pack_bits(size_t x, size_t out, size_t n):
    with nogil:
        K.pack_bits(<const u64 *>x, <u64 *>out, n)


def unpack_bits(size_t packed, size_t out, size_t n):
    with nogil:
        K.unpack_bits(<const u64 *>packed, <u64 *>out, n)


def decompose(size_t x, size_t planes, size_t n):
    with nogil:
        K.decompose(<const u64 *>x, <u64 *>planes, n)


def truncate_local(size_t z, unsigned f, bint lead, size_t out, size_t n):
    with nogil:
        K.truncate_local(<const u64 *>z, f, lead, <u64 *>out, n)


def matmul(size_t m, size_t n, size_t k, size_t a, ptrdiff_t a_row, ptrdiff_t a_col,
           size_t b, ptrdiff_t b_row, ptrdiff_t b_col, size_t c, ptrdiff_t ldc, bint accumulate):
    """c (+)= a @ b; MemoryError where the packed tiles find no room."""
    cdef psm_view va, vb
    cdef int failed
    va.data = <const u64 *>a
    va.row = a_row
    va.col = a_col
    vb.data = <const u64 *>b
    vb.row = b_row
    vb.col = b_col
    with nogil:
        failed = psm_matmul(m, n, k, va, vb, <u64 *>c, ldc, accumulate)
    if failed:
        raise MemoryError


include "securenn.pxi"
include "wide.pxi"
