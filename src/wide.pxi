# The border to src/c/wide.h; part of _ring.pyx.

cdef extern from "wide.h" nogil:
    void psm_wide_pack_all(size_t sets, const u64 *x, const u64 *m, int subtract, u64 *out, size_t n)
    void psm_wide_combine_all(size_t sets, const u64 *z, const u64 *x, const u64 *d, const u64 *a, const u64 *e, u64 *out, size_t n)
    void psm_wide_affine_all(size_t sets, const u64 *v, const u64 *factors, const u64 *dealt, const u64 *c, u64 *out, size_t n)
    void psm_wide_deal_all(const psm_holders *h, u64 stream, u64 first, const u64 *v, int upper, u64 low, u64 high, u64 *out, size_t n)
    void psm_wide_dot_all(size_t m, size_t n, size_t k, const u64 *d, const u64 *low, const u64 *high, u64 *out, size_t plane, size_t row, size_t col)
    void psm_wide_sums_all(size_t parts, const u64 *coins, const u64 *const *x, u64 *out, size_t n)
    void psm_wide_leaves_all(size_t sets, const u64 *c, const u64 *dealt, const u64 *factors, u64 *out, size_t n)
    void psm_wide_join_all(size_t sets, const u64 *x, const u64 *masks, const u64 *opened, const u64 *dealt, u64 *out, size_t n)


def wide_pack(size_t sets, size_t x, size_t m, bint subtract, size_t out, size_t n):
    with nogil:
        psm_wide_pack_all(sets, <const u64 *>x, <const u64 *>m, subtract, <u64 *>out, n)


def wide_combine(size_t sets, size_t z, size_t x, size_t d, size_t a, size_t e, size_t out, size_t n):
    with nogil:
        psm_wide_combine_all(sets, <const u64 *>z, <const u64 *>x, <const u64 *>d, <const u64 *>a, <const u64 *>e, <u64 *>out, n)


def wide_affine(size_t sets, size_t v, size_t factors, size_t dealt, size_t c, size_t out, size_t n):
    with nogil:
        psm_wide_affine_all(sets, <const u64 *>v, <const u64 *>factors, <const u64 *>dealt, <const u64 *>c, <u64 *>out, n)


def wide_deal(Keys keys, u64 stream, u64 first, size_t v, bint upper, u64 low, u64 high, size_t out, size_t n):
    with nogil:
        psm_wide_deal_all(&keys.h, stream, first, <const u64 *>v, upper, low, high, <u64 *>out, n)


def wide_dot(size_t m, size_t n, size_t k, size_t d, size_t low, size_t high, size_t out, size_t plane, size_t row, size_t col):
    with nogil:
        psm_wide_dot_all(m, n, k, <const u64 *>d, <const u64 *>low, <const u64 *>high, <u64 *>out, plane, row, col)


def wide_sums(size_t parts, size_t coins, size_t x, size_t out, size_t n):
    with nogil:
        psm_wide_sums_all(parts, <const u64 *>coins, <const u64 *const *>x, <u64 *>out, n)


def wide_leaves(size_t sets, size_t c, size_t dealt, size_t factors, size_t out, size_t n):
    with nogil:
        psm_wide_leaves_all(sets, <const u64 *>c, <const u64 *>dealt, <const u64 *>factors, <u64 *>out, n)


def wide_join(size_t sets, size_t x, size_t masks, size_t opened, size_t dealt, size_t out, size_t n):
    with nogil:
        psm_wide_join_all(sets, <const u64 *>x, <const u64 *>masks, <const u64 *>opened, <const u64 *>dealt, <u64 *>out, n)
