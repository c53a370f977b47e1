"""Shared between the two extension modules: the step tables, keys, and constants that kernels are given."""

from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport uint8_t, uint64_t


cdef extern from "ring.h" nogil:
    ctypedef uint64_t u64

    ctypedef struct psm_aes_key:
        uint8_t bytes[176]

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
        size_t (*compare_message)(int nodes, int round, size_t n) noexcept nogil
        size_t (*compare_corrections)(int nodes, int part, size_t n) noexcept nogil
        size_t (*compare_state)(int nodes, size_t n) noexcept nogil


cdef extern from "fss.h" nogil:
    ctypedef struct psm_fss:
        unsigned bits
        unsigned words
        int less

    ctypedef struct psm_fss_steps:
        size_t (*key_words)(psm_fss f) noexcept nogil
        size_t (*bits_words)(unsigned bits, size_t n) noexcept nogil


cdef const psm_steps *steps
cdef const psm_fss_steps *fss


cdef class Keys:
    cdef psm_holders h
    cdef tuple lenders


cdef class Constant:
    cdef const void *data
    cdef bint function  # or a divisor
