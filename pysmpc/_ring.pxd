"""Shared between the two extension modules: key tables and the step table."""

from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport uint8_t, uint64_t


cdef extern from "ring.h" nogil:
    ctypedef uint64_t u64

    ctypedef struct psm_aes_key:
        uint8_t bytes[176]

    ctypedef struct psm_view:
        const u64 *data
        ptrdiff_t row
        ptrdiff_t col

    ctypedef struct psm_divisor:
        unsigned power
        u64 offset
        u64 offset_quotient


cdef extern from "rounds.h" nogil:
    ctypedef struct psm_holders:
        psm_aes_key *keys
        size_t count
        ptrdiff_t lead
        ptrdiff_t target

    ctypedef struct psm_steps:
        psm_divisor (*divisor_make)(u64 d) noexcept nogil
        void (*draw)(const psm_holders *h, u64 stream, const u64 *corrections, u64 *out, size_t n) noexcept nogil
        void (*mask)(const psm_holders *h, u64 stream, const u64 *x, u64 *out, size_t n) noexcept nogil
        void (*deal_sum)(const psm_holders *h, u64 stream, u64 *out, size_t n) noexcept nogil
        void (*deal_take)(const psm_holders *h, u64 stream, u64 *acc, size_t n) noexcept nogil
        void (*truncate_deal)(const psm_holders *h, u64 base, psm_divisor d, const u64 *owed, u64 factor, u64 *corrections, size_t n) noexcept nogil
        void (*truncate_mask)(const psm_holders *h, u64 base, u64 offset, u64 factor, const u64 *z, u64 *out, unsigned halves, size_t n) noexcept nogil
        void (*truncate_finish)(const psm_holders *h, u64 base, psm_divisor d, const u64 *c, unsigned halves, const u64 *corrections, const u64 *x, u64 *out, size_t n) noexcept nogil
        void (*beaver_mul)(const psm_holders *h, const u64 *d, const u64 *y, const u64 *a, const u64 *e, u64 *z, size_t n) noexcept nogil
        void (*beaver_square)(const psm_holders *h, const u64 *d, const u64 *x, const u64 *a, u64 *z, size_t n) noexcept nogil
        void (*add)(const u64 *x, const u64 *y, u64 *out, size_t n) noexcept nogil
        void (*sub)(const u64 *x, const u64 *y, u64 *out, size_t n) noexcept nogil
        void (*scale)(const u64 *x, u64 factor, u64 *out, size_t n) noexcept nogil
        void (*rows_sum)(const u64 *x, size_t rows, u64 *out, size_t n) noexcept nogil
        void (*weighted)(const u64 *factors, const u64 *words, size_t rows, size_t count, u64 *out, size_t n) noexcept nogil
        void (*turns)(const u64 *phase, size_t count, u64 *out, size_t n) noexcept nogil
        void (*powers_of_e)(const u64 *x, u64 *out, size_t n) noexcept nogil
        size_t (*compare_message)(int nodes, int round, size_t n) noexcept nogil
        size_t (*compare_corrections)(int nodes, int part, size_t n) noexcept nogil
        size_t (*compare_state)(int nodes, size_t n) noexcept nogil
        void (*compare_deal)(const psm_holders *h, u64 base, int nodes, int known, const u64 *masks, u64 *corrections, size_t n) noexcept nogil
        void (*compare_chunks)(const psm_holders *h, u64 base, u64 known, int nodes, const u64 *corrections, const u64 *c, u64 offset, u64 *state, u64 *message, size_t n) noexcept nogil
        void (*compare_nodes)(const psm_holders *h, u64 base, int nodes, int known, const u64 *corrections, const u64 *opened, const u64 *state, u64 *sign, u64 *message, size_t n) noexcept nogil
        void (*compare_root)(const psm_holders *h, u64 base, int nodes, int known, const u64 *corrections, const u64 *opened, const u64 *sign, u64 *message, size_t n) noexcept nogil
        void (*bit_deal)(const psm_holders *h, u64 rho, u64 stream, u64 *corrections, size_t n) noexcept nogil
        void (*bit_share)(const psm_holders *h, const u64 *beta, const u64 *rho, u64 *out, size_t n) noexcept nogil
        void (*select_deal)(const psm_holders *h, u64 base, u64 rho, const psm_divisor *d, u64 *corrections, size_t n) noexcept nogil
        void (*select_finish)(const psm_holders *h, u64 base, const psm_divisor *d, int flip, const u64 *c, const u64 *beta, const u64 *rho, const u64 *corrections, u64 *out, size_t n) noexcept nogil


cdef extern from "product.h" nogil:
    ctypedef struct psm_factor:
        const u64 *shares
        const u64 *opened
        u64 stream
        size_t n
        ptrdiff_t row
        ptrdiff_t col
        const ptrdiff_t *offsets
        const ptrdiff_t *rows
        const ptrdiff_t *cols
        const ptrdiff_t *map
        size_t row_run
        size_t col_run
        size_t size

    ctypedef struct psm_product:
        psm_factor x
        psm_factor y
        size_t batch
        size_t m
        size_t n
        size_t k


cdef extern from "fss.h" nogil:
    ctypedef struct psm_fss:
        unsigned bits
        unsigned words
        int less

    ctypedef struct psm_fss_steps:
        size_t (*key_words)(psm_fss f) noexcept nogil
        void (*deal)(const psm_holders *h, u64 base, psm_fss f, const u64 *alpha, const u64 *values, const u64 *others, size_t n, size_t first, size_t last, u64 *key) noexcept nogil
        void (*eval)(const psm_holders *h, u64 base, psm_fss f, const u64 *key, const u64 *x, u64 shift, size_t n, size_t first, size_t last, u64 *out) noexcept nogil
        size_t (*bits_words)(unsigned bits, size_t n) noexcept nogil
        void (*bits_deal)(const psm_holders *h, u64 mask, u64 base, psm_fss f, size_t first, size_t last, u64 *key) noexcept nogil
        void (*bits_eval)(const psm_holders *h, u64 base, psm_fss f, const u64 *key, const u64 *x, u64 shift, size_t n, size_t first, size_t last, u64 *out) noexcept nogil


cdef const psm_steps *steps
cdef const psm_fss_steps *fss
cdef int (*product_deal)(const psm_holders *h, const psm_product *p, u64 stream, u64 *corrections) noexcept nogil
cdef int (*product_combine)(const psm_holders *h, const psm_product *p, u64 stream, const u64 *corrections, u64 *out) noexcept nogil
cdef int (*product_masks)(const psm_holders *h, const psm_product *p, u64 *out) noexcept nogil
cdef int (*product_part)(const psm_holders *h, const psm_product *p, u64 *out) noexcept nogil


cdef class Keys:
    cdef psm_holders h
    cdef tuple lenders
