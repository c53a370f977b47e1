/* PSM_UNROLL before a loop of constant, small length: unroll it entirely and early
 * enough for an array indexed by it to live in registers. */
#ifndef PSM_UNROLL_H
#define PSM_UNROLL_H

#ifdef __clang__
#define PSM_UNROLL _Pragma("unroll")
#else
#define PSM_UNROLL _Pragma("GCC unroll 16")
#endif

#endif
