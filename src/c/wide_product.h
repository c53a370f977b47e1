/* Products of a public matrix of words and shared matrices of numbers mod 2^128. */
#ifndef PSM_WIDE_PRODUCT_H
#define PSM_WIDE_PRODUCT_H

#include "ring.h"

/* where the matrices of a batch stand: entry b, row i and column j at b * batch + i * row + j * col */
typedef struct {
    const u64 *data;
    ptrdiff_t batch, row, col;
} psm_wide_view;

/* Of `sets` arrays (`set` words apart) of numbers whose upper halves stand `half` words behind the lower:
 * z [sets][2][batch * m * n] += d @ y, or y @ d where y is on the left.  0, or -1 where memory is short. */
int psm_wide_matmul(size_t sets, size_t batch, size_t m, size_t n, size_t k, psm_wide_view d, psm_wide_view y,
                    ptrdiff_t set, ptrdiff_t half, int left, u64 *z);

#endif
