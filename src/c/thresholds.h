/* Comparisons of one opening with many public ends, and sums of their bits: one call a round (thresholds.inc.h). */
#ifndef PSM_THRESHOLDS_H
#define PSM_THRESHOLDS_H

#include "rounds.h"

/* Streams: of the first end from `first` on, of end j > 0 from rest + (j - 1) apart on */
typedef struct {
    u64 first, rest, apart;
    size_t count;
} psm_ends;

/* dealer: for each end the corrections of nodes, root and n shares of rho; before them those of the monomials of r, where
 * they are not `known` */
void psm_thresholds_deal(const psm_holders *h, psm_ends ends, int nodes, int known, u64 *corrections, size_t n);

/* the three rounds, rows of messages of all ends.  corrections: of all ends; monomials: NULL, or of the comparison whose
 * streams begin at `known`, where they are not the first of those */
void psm_thresholds_chunks_all(const psm_holders *h, psm_ends ends, u64 known, int nodes, const u64 *monomials,
                               const u64 *c, const u64 *offsets, u64 *state, u64 *message, size_t n);
void psm_thresholds_nodes(const psm_holders *h, psm_ends ends, int nodes, int known, const u64 *corrections,
                          const u64 *opened, const u64 *state, u64 *sign, u64 *message, size_t n);
void psm_thresholds_root(const psm_holders *h, psm_ends ends, int nodes, int known, const u64 *corrections,
                         const u64 *opened, const u64 *sign, u64 *message, size_t n);

/* rows of `row` words, in which `sums` sums of n words are `between` words apart; ends: streams of the shares of rho */
void psm_thresholds_sums_all(const psm_holders *h, psm_ends ends, int nodes, int known, const u64 *corrections,
                             const u64 *betas, const u64 *weights, const u64 *constants, size_t sums, size_t row,
                             size_t between, u64 *out, size_t n);

#endif
