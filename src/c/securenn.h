/* The steps of SecureNN: what one party does in one round, for every holder hosted here,
 * split over the threads.  securenn.inc.h and odd.inc.h say what is computed.
 *
 * `h` has the keys that the hosted holders share with the provider, `pair` for each of
 * them the key that the two holders have in common; where P2 computes, `h` has both
 * holders' keys.  Arrays have a row a holder; messages and packed shares of bits are
 * psm_securenn_words(n) long. */
#ifndef PSM_SECURENN_H
#define PSM_SECURENN_H

#include "rounds.h"

size_t psm_securenn_words(size_t n);

/* P2: the packed share of the bits of x; the other share is `stream` of the first holder */
void psm_securenn_bits(const psm_holders *h, u64 stream, const u64 *x, u64 *out, size_t n);
/* Holders: messages of a comparison of shared bits with r [rows, n], for x > r - less */
void psm_securenn_compare(const psm_holders *h, u64 bits, const psm_holders *pair, u64 base,
                          const u64 *corrections, const u64 *r, int less, u64 *message, size_t n);
/* P2: from both messages, packed bits of the elements with a zero */
void psm_securenn_found(const u64 *messages, u64 *out, size_t n);

/* P2: the sum x of the two rows of a, and the share of its carry */
void psm_securenn_sum(const psm_holders *h, u64 stream, const u64 *a, u64 *x, u64 *carry, size_t n);
/* P2: the share in the odd ring of packed bits */
void psm_securenn_answer(const psm_holders *h, u64 stream, const u64 *found, u64 *out, size_t n);
/* P2: the sum in the odd ring of the holders' streams */
void psm_securenn_total(const psm_holders *h, u64 stream, u64 *out, size_t n);
/* Holders: shares of a + before in the odd ring, plus after */
void psm_securenn_finish(const psm_holders *h, u64 own, const psm_holders *pair, u64 base, u64 before,
                         u64 after, const u64 *a, const u64 *delta, const u64 *eta, u64 *out, size_t n);
/* Holders: messages 2 y + x */
void psm_securenn_double(const psm_holders *h, u64 stream, const u64 *y, u64 *out, size_t n);
/* Holders: what the messages sum to, from their sum mod 2^64 */
void psm_securenn_opened(size_t rows, const u64 *sum, const u64 *messages, u64 *out, size_t n);

#endif
