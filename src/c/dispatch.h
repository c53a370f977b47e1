/* Which kernels this machine runs, chosen once. */
#ifndef PSM_DISPATCH_H
#define PSM_DISPATCH_H

#include "ring.h"

extern const psm_kernels psm_kernels_portable;
#ifdef __x86_64__
extern const psm_kernels psm_kernels_avx2;
extern const psm_kernels psm_kernels_vaes256;
extern const psm_kernels psm_kernels_avx512;
extern const psm_kernels psm_kernels_avx512vaes;
#endif

/* The table for this process: the best one, or that named by the environment
 * variable PYSMPC_TARGET. Read once; safe from any thread. If the name is
 * unknown, or the CPU cannot run it, the table is the best one and
 * psm_dispatch_error() says what is wrong: the caller must refuse to start. */
const psm_kernels *psm_kernels_get(void);

/* NULL, or why PYSMPC_TARGET cannot be obeyed */
const char *psm_dispatch_error(void);

/* e.g. "avx512: avx512f avx512dq ... present; vaes absent" */
const char *psm_dispatch_reason(void);

/* The widest vectors of that table, for kernels that are not in it (wide_product.c, wide_sums.c).  Products of 52 bits
 * (AVX-512 IFMA) where the CPU has them, with the tables that have VAES too: every such CPU but no other target. */
typedef enum { PSM_SCALARS, PSM_AVX2, PSM_AVX512, PSM_IFMA } psm_vectors;
psm_vectors psm_dispatch_vectors(void);

/* how products of matrices are computed, and why not on tiles where they are not */
const char *psm_dispatch_products(void);

/* the table of that name, or NULL if it is unknown or this CPU cannot run it */
const psm_kernels *psm_kernels_by_name(const char *name);

/* names of the tables this CPU can run, worst first, ending with NULL */
const char *const *psm_kernels_names(void);

#endif
