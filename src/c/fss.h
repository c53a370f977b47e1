/* The steps of fss.inc.h and fss_bits.inc.h for every hosted holder, split over the threads.
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
    /* bits (fss_bits.inc.h): f.words is not used, 7 <= f.bits; n and first multiples of 512 but for
     * the last key.  Words of a key beside the salt; dealer: for r, the sum of streams `mask`;
     * holders: packed out [count, ceil(n / 64)] at x - shift */
    size_t (*bits_words)(unsigned bits, size_t n);
    void (*bits_deal)(const psm_holders *h, u64 mask, u64 base, psm_fss f, size_t first, size_t last,
                      u64 *key);
    void (*bits_eval)(const psm_holders *h, u64 base, psm_fss f, const u64 *key, const u64 *x, u64 shift,
                      size_t n, size_t first, size_t last, u64 *out);
} psm_fss_steps;

extern const psm_fss_steps psm_fss_table;

#endif
