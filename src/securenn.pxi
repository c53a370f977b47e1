# The border to src/c/securenn.h; part of _ring.pyx.

cdef extern from "securenn.h" nogil:
    size_t psm_securenn_words(size_t n)
    void psm_securenn_bits(const psm_holders *h, u64 stream, const u64 *x, u64 *out, size_t n)
    void psm_securenn_compare(const psm_holders *h, u64 bits, const psm_holders *pair, u64 base, const u64 *corrections, const u64 *r, int less, u64 *message, size_t n)
    void psm_securenn_found(const u64 *messages, u64 *out, size_t n)
    void psm_securenn_sum(const psm_holders *h, u64 stream, const u64 *a, u64 *x, u64 *carry, size_t n)
    void psm_securenn_answer(const psm_holders *h, u64 stream, const u64 *found, u64 *out, size_t n)
    void psm_securenn_total(const psm_holders *h, u64 stream, u64 *out, size_t n)
    void psm_securenn_finish(const psm_holders *h, u64 own, const psm_holders *pair, u64 base, u64 before, u64 after, const u64 *a, const u64 *delta, const u64 *eta, u64 *out, size_t n)
    void psm_securenn_double(const psm_holders *h, u64 stream, const u64 *y, u64 *out, size_t n)
    void psm_securenn_opened(size_t rows, const u64 *sum, const u64 *messages, u64 *out, size_t n)


def securenn_words(size_t n) -> int:
    return psm_securenn_words(n)


def securenn_bits(Keys keys, u64 stream, size_t x, size_t out, size_t n):
    with nogil:
        psm_securenn_bits(&keys.h, stream, <const u64 *>x, <u64 *>out, n)


def securenn_compare(Keys keys, u64 bits, Keys pair, u64 base, size_t corrections, size_t r, bint less, size_t message, size_t n):
    with nogil:
        psm_securenn_compare(&keys.h, bits, &pair.h, base, <const u64 *>corrections, <const u64 *>r, less, <u64 *>message, n)


def securenn_found(size_t messages, size_t out, size_t n):
    with nogil:
        psm_securenn_found(<const u64 *>messages, <u64 *>out, n)


def securenn_sum(Keys keys, u64 stream, size_t a, size_t x, size_t carry, size_t n):
    with nogil:
        psm_securenn_sum(&keys.h, stream, <const u64 *>a, <u64 *>x, <u64 *>carry, n)


def securenn_answer(Keys keys, u64 stream, size_t found, size_t out, size_t n):
    with nogil:
        psm_securenn_answer(&keys.h, stream, <const u64 *>found, <u64 *>out, n)


def securenn_total(Keys keys, u64 stream, size_t out, size_t n):
    with nogil:
        psm_securenn_total(&keys.h, stream, <u64 *>out, n)


def securenn_finish(Keys keys, u64 own, Keys pair, u64 base, u64 before, u64 after, size_t a, size_t delta, size_t eta, size_t out, size_t n):
    with nogil:
        psm_securenn_finish(&keys.h, own, &pair.h, base, before, after, <const u64 *>a, <const u64 *>delta, <const u64 *>eta, <u64 *>out, n)


def securenn_double(Keys keys, u64 stream, size_t y, size_t out, size_t n):
    with nogil:
        psm_securenn_double(&keys.h, stream, <const u64 *>y, <u64 *>out, n)


def securenn_opened(size_t rows, size_t total, size_t messages, size_t out, size_t n):
    with nogil:
        psm_securenn_opened(rows, <const u64 *>total, <const u64 *>messages, <u64 *>out, n)


def pair_keys(Keys own, Keys after, tuple ranks):
    """Of two holders on a ring of keys, each of whom has its own and the next: the first key, for each hosted one."""
    cdef Keys out = Keys([bytes(16)] * <Py_ssize_t>own.h.count)
    cdef size_t row
    for row in range(own.h.count):
        out.h.keys[row] = (own if ranks[row] == 0 else after).h.keys[row]
    out.lenders = (own, after)  # of the keys of epochs
    return out
