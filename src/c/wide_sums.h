/* Sums of random sets of numbers, for the check of message authentication codes. */
#ifndef PSM_WIDE_SUMS_H
#define PSM_WIDE_SUMS_H

#include "ring.h"

/* out [parts][2][48] = of each of `parts` arrays of n numbers, for each of the 48 lowest bits of the public coins,
 * the sum of the numbers at which it is 1.  x: the addresses of the lower and the upper halves of each; where the
 * latter is NULL, numbers and sums are mod 2^64, with upper halves of 0. */
void psm_wide_sums_all(size_t parts, const u64 *coins, const u64 *const *x, u64 *out, size_t n);

#endif
