/* The matrix product of two secrets: what the dealer and the holders compute.
 *
 * A factor is a matrix within a body of words: element (i, j) of batch entry b is at
 * offsets[b] + i * row + j * col, or, where `rows` is given, at
 * map[offsets[b] + rows[i] + cols[j]], a negative position meaning a public zero.
 * So a convolution is a product of windows on the image (Chellapilla et al. 2006),
 * which are never stored as a whole: they are taken where they lie (direct.h) or
 * gathered a block at a time; and padding needs no message.
 */
#ifndef PSM_PRODUCT_H
#define PSM_PRODUCT_H

#include "rounds.h"

typedef struct {
    const u64 *shares; /* [count][n], of the hosted holders */
    const u64 *opened; /* [n] value - mask */
    u64 stream;        /* of the mask */
    size_t n;
    ptrdiff_t row, col;
    const ptrdiff_t *offsets;           /* [batch] */
    const ptrdiff_t *rows, *cols, *map; /* or NULL; map may be NULL alone */
    size_t row_run, col_run;            /* rows (columns) are runs of so many consecutive positions */
    size_t size;                        /* of map */
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

/* The same in two parts, for a product whose c is not dealt or is dealt later:
 * out [batch * m * n] = a @ b; and out[h] without c_h */
int psm_product_masks(const psm_holders *h, const psm_product *p, u64 *out);
int psm_product_part(const psm_holders *h, const psm_product *p, u64 *out);

#endif
