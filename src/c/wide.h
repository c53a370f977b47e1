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
/* dealt [sets, 97 n], factors [sets], out [sets, 64 n] */
void psm_wide_leaves_all(size_t sets, const u64 *c, const u64 *dealt, const u64 *factors, u64 *out, size_t n);
/* x [sets, 4 n], masks [sets, 3 n], dealt and out [sets, 2 n] */
void psm_wide_join_all(size_t sets, const u64 *x, const u64 *masks, const u64 *opened, const u64 *dealt, u64 *out,
                       size_t n);

#endif
