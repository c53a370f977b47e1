/* The product of ring.h, shared among the pool's threads. */
#ifndef PSM_MATMUL_H
#define PSM_MATMUL_H

#include "ring.h"

/* C[m,n] (+)= A[m,k] @ B[k,n] mod 2^64, as the kernel in ring.h; 0, or -1 where
 * memory is short */
int psm_matmul(size_t m, size_t n, size_t k, psm_view a, psm_view b, u64 *c, ptrdiff_t ldc,
               int accumulate);

/* A result of m x n in blocks of at most rows x cols, which may be computed at once:
 * for `copies` such results of `depth` products a word, as many as the threads can
 * use. Sums wrap, so words do not depend on the blocks. */
typedef struct {
    size_t m, n, rows, cols, across, blocks;
} psm_grid;

psm_grid psm_matmul_grid(size_t m, size_t n, size_t depth, size_t copies);

/* whether so many blocks of one size leave no thread without work for long */
int psm_shared_out(size_t blocks, size_t threads);

/* block `index` of the product, in the calling thread; slot 0 of work.h is its own */
int psm_matmul_block(const psm_grid *g, size_t index, size_t k, psm_view a, psm_view b, u64 *c,
                     ptrdiff_t ldc, int accumulate);

#endif
