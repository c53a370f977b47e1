/* The kernels of wide.inc.h over the pool, for all hosted holders.
 *
 * `sets` arrays stand one after the other, loose ones of 4 n words and tight ones of 2 n.
 */
#ifndef PSM_WIDE_H
#define PSM_WIDE_H

#include "rounds.h"

void psm_wide_pack_all(size_t sets, const u64 *x, const u64 *m, int subtract, u64 *out, size_t n);
void psm_wide_combine_all(size_t sets, const u64 *z, const u64 *x, const u64 *d, const u64 *a, const u64 *e, u64 *out,
                          size_t n);
void psm_wide_affine_all(size_t sets, const u64 *v, const u64 *factors, const u64 *dealt, const u64 *c, u64 *out,
                         size_t n);
/* less what all but the last holder draw, or (v = NULL) the sum of what all draw */
void psm_wide_deal_all(const psm_holders *h, u64 stream, u64 first, const u64 *v, int upper, u64 low, u64 high,
                       u64 *out, size_t n);
/* out [2, 97 n]; of each holder out [64 n] and top [n], of corrections [97 n] */
void psm_wide_leaves_deal_all(const psm_holders *h, u64 mask, u64 stream, u64 alpha, u64 *out, size_t n);
void psm_wide_leaves_all(const psm_holders *h, u64 stream, const u64 *corrections, const u64 *c, const u64 *factors,
                         u64 *out, u64 *top, size_t n);
/* out [7 n]; of each holder x [4 n], opened [3 n], out [2 n], of corrections [3 n] and [2 n] */
void psm_wide_join_deal_all(const psm_holders *h, u64 masks, u64 stream, u64 alpha, u64 *out, size_t n);
void psm_wide_join_all(const psm_holders *h, u64 masks, const u64 *mask_corrections, u64 stream,
                       const u64 *corrections, const u64 *x, const u64 *opened, u64 *out, size_t n);
/* of each holder x and y [4 third], packed [ceil(3 third / 64)], rest and code [3 third] */
void psm_wide_factors_all(const psm_holders *h, u64 masks, const u64 *corrections, const u64 *x, const u64 *y,
                          u64 *packed, u64 *rest, u64 *code, size_t third);
/* packed [rows, ceil(n / 64)] */
void psm_wide_count_all(const u64 *packed, size_t rows, u64 *out, size_t n);

#endif
