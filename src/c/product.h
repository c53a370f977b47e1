/* The matrix product of two secrets: what the dealer and the holders compute. */
#ifndef PSM_PRODUCT_H
#define PSM_PRODUCT_H

#include "rounds.h"

/* One factor: matrices within a body of n words, one a batch entry. */
typedef struct {
    const u64 *shares; /* [count][n], of the hosted holders */
    const u64 *opened; /* [n] value - mask */
    u64 stream;        /* of the mask */
    size_t n;
    ptrdiff_t row, col;
    const ptrdiff_t *offsets; /* [batch] */
} psm_factor;

typedef struct {
    psm_factor x, y;
    size_t batch, m, n, k;
} psm_product;

/* corrections [batch * m * n] = a @ b less the holders' words of `stream`;
 * 0, or -1 where memory is short */
int psm_product_deal(const psm_holders *h, const psm_product *p, u64 stream, u64 *corrections);

/* out[h] = c_h + d @ y_h + a_h @ e, with c_h the words of `stream` and, at the
 * target, the corrections; 0 or -1 */
int psm_product_combine(const psm_holders *h, const psm_product *p, u64 stream,
                        const u64 *corrections, u64 *out);

#endif
