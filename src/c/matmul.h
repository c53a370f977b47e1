/* The product of ring.h, a large one being shared among the pool's threads. */
#ifndef PSM_MATMUL_H
#define PSM_MATMUL_H

#include "ring.h"

/* C[m,n] (+)= A[m,k] @ B[k,n] mod 2^64, as the kernel in ring.h; `work` holds
 * psm_matmul_work(m, n, k) words, a number that depends on the shape alone. */
void psm_matmul(size_t m, size_t n, size_t k, psm_view a, psm_view b, u64 *c, ptrdiff_t ldc,
                int accumulate, u64 *work);
size_t psm_matmul_work(size_t m, size_t n, size_t k);

#endif
