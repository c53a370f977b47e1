/* The steps of fss.inc.h for every hosted holder, split over the threads.
 *
 * For two holders; rank 0 is the leading one.  A key is for the elements [first, last) of
 * n, first being a multiple of 128: the salt, two words, then key_words(f) words an element.
 */
#ifndef PSM_FSS_H
#define PSM_FSS_H

#include "rounds.h"

typedef struct {
    size_t (*key_words)(psm_fss f);
    /* dealer: salt and key from streams `base` (the salt's) and base + 1 (the roots') */
    void (*deal)(const psm_holders *h, u64 base, psm_fss f, const u64 *alpha, const u64 *in,
                 const u64 *out, size_t n, size_t first, size_t last, u64 *key);
    /* holders: out [count, words, n] at x - shift */
    void (*eval)(const psm_holders *h, u64 base, psm_fss f, const u64 *key, const u64 *x, u64 shift,
                 size_t n, size_t first, size_t last, u64 *out);
    /* dealer: the key of a comparison with r, the sum of streams `mask`, or of the point r */
    void (*mask_deal)(const psm_holders *h, u64 mask, u64 base, psm_fss f, const psm_divisor *d,
                      size_t first, size_t last, u64 *key);
    /* holders: out [count, n] = ReLU from u [count, 2 or 3, n] and t [count, n] */
    void (*relu)(const psm_holders *h, const psm_divisor *d, const u64 *c, u64 shift, const u64 *u,
                 const u64 *t, u64 *out, size_t n);
} psm_fss_steps;

extern const psm_fss_steps psm_fss_table;

#endif
