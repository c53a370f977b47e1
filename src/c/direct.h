/* Products of which one operand lies in runs of consecutive words: windows of an image
 * whose batch is innermost, say.  See direct.inc.h. */
#ifndef PSM_DIRECT_H
#define PSM_DIRECT_H

#include "product.h"

/* Whether psm_direct takes the product and is likely to be faster than gathering. */
int psm_direct_fits(const psm_product *p);

/* out [batch * m * n] (+)= x @ y of words x and y; 0, or -1 where memory is short */
int psm_direct(const psm_product *p, const u64 *x, const u64 *y, u64 *out, int accumulate);

/* The words that positions of a factor refer to without its map: `data`, or, if there is a map, a copy
 * with zeros as padding, in that slot of work.h; NULL where memory is short */
const u64 *psm_placed(const psm_factor *f, const u64 *data, int slot);

#endif
