/* Products with windows of 3 x 3 that move by one place: 36 products of words where there are 81 (filtering.inc.h).
 *
 * Results, or for the gradient of a filter its places, are tiles of 3 x 3, which take 5 x 5 words of the image each.  Sums
 * of those, and of the taps, are 36 ordinary products of matrices, a block of tiles and of channels at a time; sums of
 * these are the results.
 */
#ifndef PSM_FILTERING_H
#define PSM_FILTERING_H

#include "product.h"

/* Words without a map: data[0] of a product, or of a pair of holders' products what is public and their own (matmul_pair
 * of ring.h), whose results are `next` words apart. */
typedef struct {
    size_t values; /* 1 or 3 */
    const u64 *x[3], *y[3];
    u64 *out;
    size_t next;
    int accumulate;
} psm_operands;

/* out (+)= x @ y; 0, -1 where memory is short, or 1 where the product is of another kind, or would gain nothing */
int psm_filtering(const psm_product *p, const psm_operands *o);

#endif
