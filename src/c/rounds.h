/* One call a protocol step: every hosted holder, split over the threads.
 *
 * A process hosts `count` of the share holders (all in one process, one in a
 * worker, none in the provider); arrays have one row a hosted holder.  `lead` and
 * `target` are the rows of the leading holder, who adds public constants, and of
 * the holder who is sent corrections; -1 where another process hosts them.
 */
#ifndef PSM_ROUNDS_H
#define PSM_ROUNDS_H

#include "ring.h"

typedef struct {
    psm_aes_key *keys;
    size_t count;
    ptrdiff_t lead, target;
} psm_holders;

typedef struct {
    psm_divisor (*divisor_make)(u64 d);

    /* out[h] = words of stream; for the target the corrections, unless NULL, which may lie in its row already */
    void (*draw)(const psm_holders *h, u64 stream, const u64 *corrections, u64 *out, size_t n);
    /* out[h] = x[h] - words of stream; x rows are `row` words apart */
    void (*mask)(const psm_holders *h, u64 stream, const u64 *x, u64 *out, size_t n);
    /* dealer: out = sum of all holders' words; acc -= those of all but the last */
    void (*deal_sum)(const psm_holders *h, u64 stream, u64 *out, size_t n);
    void (*deal_take)(const psm_holders *h, u64 stream, u64 *acc, size_t n);

    void (*truncate_deal)(const psm_holders *h, u64 base, psm_divisor d, const u64 *owed, u64 factor,
                          u64 *corrections, size_t n);
    /* halves: 0, or how many holders there are in all, where messages are upper halves, two in
     * each of (n + 1) / 2 words; of an odd n the last half is not written */
    void (*truncate_mask)(const psm_holders *h, u64 base, u64 offset, u64 factor, const u64 *z,
                          u64 *out, unsigned halves, size_t n);
    void (*truncate_finish)(const psm_holders *h, u64 base, psm_divisor d, const u64 *c, unsigned halves,
                            const u64 *corrections, const u64 *x, u64 *out, size_t n);

    /* as in reopen.inc.h */
    void (*reopen_deal)(const psm_holders *h, u64 base, psm_divisor d, u64 *corrections, size_t n);
    void (*reopen_mask)(const psm_holders *h, u64 base, psm_divisor d, const u64 *z, const u64 *corrections, u64 *out,
                        size_t n);
    void (*reopen_finish)(const psm_holders *h, u64 base, psm_divisor d, const u64 *c, const u64 *corrections, u64 *out,
                          size_t n);
    void (*reopen_message)(const psm_holders *h, u64 base, psm_divisor d, const u64 *c, const u64 *v, u64 *out,
                           size_t n);
    void (*reopen_opened)(psm_divisor d, const u64 *c, const u64 *lanes, u64 *out, size_t n);

    /* products without an opening (affine.inc.h); y NULL: of a square */
    void (*affine_deal)(const psm_holders *h, u64 base, const psm_known *x, const psm_known *y, u64 *corrections,
                        size_t n);
    void (*affine_finish)(const psm_holders *h, u64 base, const psm_known *x, const psm_known *y, const u64 *xs,
                          const u64 *ys, const u64 *corrections, u64 *out, size_t n);

    void (*beaver_mul)(const psm_holders *h, const u64 *d, const u64 *y, const u64 *a, const u64 *e,
                       u64 *z, size_t n);
    void (*beaver_square)(const psm_holders *h, const u64 *d, const u64 *x, const u64 *a, u64 *z,
                          size_t n);

    /* elementwise, as in arith.inc.h, over the threads */
    void (*add)(const u64 *x, const u64 *y, u64 *out, size_t n);
    void (*sub)(const u64 *x, const u64 *y, u64 *out, size_t n);
    void (*scale)(const u64 *x, u64 factor, u64 *out, size_t n);
    void (*rows_sum)(const u64 *x, size_t rows, u64 *out, size_t n);

    /* out[row][i] = sum over k < count of factors[k][i] * words[row][k][i] */
    void (*weighted)(const u64 *factors, const u64 *words, size_t rows, size_t count, u64 *out, size_t n);
    /* out[row][q] of `next` words a row: constants of the row `lead` and the sums of x[row][count] (arith.inc.h) */
    void (*combinations)(const u64 *x, size_t rows, size_t count, const u64 *weights, const u64 *constants, size_t sums,
                         ptrdiff_t lead, u64 *out, size_t next, size_t n);
    /* as in turns.inc.h; out [2 count, n] */
    void (*turns)(const u64 *phase, size_t count, u64 *out, size_t n);
    /* as in characters.inc.h; constant: added to each of the results [count of holders, n] */
    void (*turns_deal)(const psm_holders *h, u64 mask, u64 stream, psm_angles a, u64 *corrections, size_t n);
    void (*turns_combine)(const psm_holders *h, u64 stream, const u64 *corrections, const u64 *c,
                          const u64 *coefficients, psm_angles a, u64 constant, u64 *out, size_t n);
    /* as in powers.inc.h; out [2^segments, n] */
    void (*powers_dealt)(const u64 *r, u64 step, unsigned segments, unsigned shift, u64 *out, size_t n);
    void (*powers_public)(const u64 *c, u64 start, u64 step, unsigned segments, const u64 *mantissas,
                          const u64 *shifts, u64 *out, size_t n);
    /* constant: added to each of the results [count of holders, n] */
    void (*powers_deal)(const psm_holders *h, u64 mask, u64 stream, psm_window a, u64 *corrections, size_t n);
    void (*powers_combine)(const psm_holders *h, u64 stream, const u64 *corrections, const u64 *c, psm_window a,
                           const u64 *mantissas, const u64 *shifts, u64 constant, u64 *out, size_t n);

    /* words of one holder's message in each round of a comparison, and of the
     * corrections it needs, for n elements.  With `known` the chunk monomials are those of another
     * comparison, and corrections begin with those of the nodes; compare_chunks is given the base
     * and the corrections of that other one */
    size_t (*compare_message)(int nodes, int round, size_t n);
    size_t (*compare_corrections)(int nodes, int part, size_t n);
    size_t (*compare_state)(int nodes, size_t n);

    void (*compare_deal)(const psm_holders *h, u64 base, int nodes, int known, const u64 *masks,
                         u64 *corrections, size_t n);
    void (*compare_chunks)(const psm_holders *h, u64 base, u64 known, int nodes, const u64 *corrections,
                             const u64 *c, u64 offset, u64 *state, u64 *message, size_t n);
    void (*compare_nodes)(const psm_holders *h, u64 base, int nodes, int known, const u64 *corrections,
                            const u64 *opened, const u64 *state, u64 *sign, u64 *message, size_t n);
    void (*compare_root)(const psm_holders *h, u64 base, int nodes, int known, const u64 *corrections,
                           const u64 *opened, const u64 *sign, u64 *message, size_t n);

    void (*bit_deal)(const psm_holders *h, u64 rho, u64 stream, u64 *corrections, size_t n);
    void (*bit_share)(const psm_holders *h, const u64 *beta, const u64 *rho, u64 *out, size_t n);
    void (*select_deal)(const psm_holders *h, u64 base, u64 rho, const psm_divisor *d,
                          u64 *corrections, size_t n);
    void (*select_finish)(const psm_holders *h, u64 base, const psm_divisor *d, int flip,
                            const u64 *c, const u64 *beta, const u64 *rho, const u64 *corrections,
                            u64 *out, size_t n);

    /* as in gaussian.inc.h */
    void (*gaussian)(const u64 *words, const u64 *thresholds, size_t count, u64 factor, u64 *z, u64 *tied, size_t n);
    /* owner: out = values of `size` bytes at scale 2^bits, less the words of the stream of all but the last holder */
    void (*encode)(const psm_holders *h, u64 stream, const u64 *values, unsigned size, unsigned bits, u64 *out, size_t n);
} psm_steps;

/* The steps on the kernels chosen for this machine; a table, so that a second
 * extension module can use the state of the first. */
extern const psm_steps psm_steps_table;

#endif
