/* The table of kernels: a line for each. */
#include "launch.h"

#include "dispatch.h"
#include "fss.h"
#include "matmul.h"
#include "product.h"
#include "rounds.h"
#include "securenn.h"
#include "thresholds.h"
#include "wide.h"
#include "wide_product.h"
#include "wide_sums.h"

#define STEP psm_steps_table
#define FSS psm_fss_table
#define KERNEL psm_kernels_get()
#define N(i) (s[i])
#define W(i) ((u64 *)s[i]) /* words, of which `declared` says whether they are written */
#define H(i) ((const psm_holders *)s[i])
#define DIVISOR(i) ((const psm_divisor *)s[i])
#define FUNCTION(i) (*(const psm_fss *)s[i])

/* A factor of a product: the dealer reads 11 slots and the holders two more.  Of the larger body holders read the
 * shares, of the smaller the mask.  MASKS has 26 slots and PRODUCT 30 */
#define PLACES(x)                                                                                                    \
    "stream " x "mask, " x "n, " x "row, " x "col, in " x "offsets, in? " x "rows, in? " x "cols, in? " x "map, "    \
    x "row_run, " x "col_run, " x "size"
#define MASKS PLACES("x_") ", " PLACES("y_") ", batch, m, n, k"
#define PRODUCT MASKS ", in x_shares, in x_opened, in y_shares, in y_opened"

/* A factor of a product that needs no opening, for the dealer and for holders */
#define MASKED(x) "stream " x "mask, divisor? " x "d, " x "reopened, " x "factor"
#define KNOWN(x) "divisor? " x "d, " x "factor, in " x "c"

static psm_factor factor(const u64 *s) {
    return (psm_factor){
        .stream = N(0), .n = N(1), .row = (ptrdiff_t)N(2), .col = (ptrdiff_t)N(3),
        .offsets = (const ptrdiff_t *)s[4], .rows = (const ptrdiff_t *)s[5], .cols = (const ptrdiff_t *)s[6],
        .map = (const ptrdiff_t *)s[7], .row_run = N(8), .col_run = N(9), .size = N(10),
    };
}

static psm_product masks(const u64 *s) {
    return (psm_product){
        .x = factor(s), .y = factor(s + 11), .batch = N(22), .m = N(23), .n = N(24), .k = N(25),
    };
}

static psm_product product(const u64 *s) {
    psm_product p = masks(s);
    p.x.shares = W(26), p.x.opened = W(27), p.y.shares = W(28), p.y.opened = W(29);
    return p;
}

/* of the dealer's slots: a factor without what was opened */
static psm_known masked(const u64 *s) {
    psm_known_kind kind = s[1] ? (s[2] ? PSM_REOPENED : PSM_TRUNCATED) : PSM_OPENED;
    return (psm_known){.kind = kind, .stream = N(0), .d = DIVISOR(1), .factor = N(3)};
}

/* of a holder's slots */
static psm_known known(const u64 *s) {
    return (psm_known){.kind = s[0] ? PSM_TRUNCATED : PSM_OPENED, .d = DIVISOR(0), .factor = N(1), .c = W(2)};
}

static psm_view view(const u64 *s) {
    return (psm_view){.data = W(0) + N(1), .row = (ptrdiff_t)N(2), .col = (ptrdiff_t)N(3)};
}

#define WINDOW "start, step, segments, shift, piece"
#define ANGLES "step, terms, piece, shift"

static psm_angles angles(const u64 *s) {
    return (psm_angles){.step = N(0), .terms = N(1), .piece = N(2), .shift = (unsigned)N(3)};
}

static psm_window window(const u64 *s) {
    return (psm_window){.start = N(0), .step = N(1), .segments = (unsigned)N(2), .shift = (unsigned)N(3), .piece = N(4)};
}

static psm_wide_view wide_view(const u64 *data, const u64 *steps) {
    return (psm_wide_view){(const u64 *)data[0], (ptrdiff_t)steps[0], (ptrdiff_t)steps[1], (ptrdiff_t)steps[2]};
}

/* Public ends with which one value is compared */
#define ENDS "stream first, stream rest, apart, count"

static psm_ends ends(const u64 *s) { return (psm_ends){.first = N(0), .rest = N(1), .apart = N(2), .count = N(3)}; }

/* K(name, what its slots are, the call) or, for what may fail, F */
#define KERNELS(K, F)                                                                                                \
    /* elementwise (arith.inc.h) */                                                                                  \
    K(add, "in x, in y, out z, n", STEP.add(W(0), W(1), W(2), N(3)))                                                 \
    K(sub, "in x, in y, out z, n", STEP.sub(W(0), W(1), W(2), N(3)))                                                 \
    K(mul, "in x, in y, out z, n", KERNEL->mul(W(0), W(1), W(2), N(3)))                                              \
    K(scale, "in x, factor, out z, n", STEP.scale(W(0), N(1), W(2), N(3)))                                           \
    K(rows_sum, "in x, rows, out z, n", STEP.rows_sum(W(0), N(1), W(2), N(3)))                                       \
    K(rows_xor, "in x, rows, out z, n", KERNEL->rows_xor(W(0), N(1), W(2), N(3)))                                    \
    K(rows_extremes, "in x, rows, n, out z", KERNEL->rows_extremes(W(0), N(1), N(2), W(3)))                          \
    K(weighted, "in factors, in words, rows, count, out z, n",                                                       \
      STEP.weighted(W(0), W(1), N(2), N(3), W(4), N(5)))                                                             \
    K(combinations, "in x, rows, count, in weights, in constants, sums, lead, inout z, first, next, n",               \
      STEP.combinations(W(0), N(1), N(2), W(3), W(4), N(5), (ptrdiff_t)N(6), W(7) + N(8), N(9), N(10)))              \
    K(turns, "in phase, count, out z, n", STEP.turns(W(0), N(1), W(2), N(3)))                                        \
    K(turns_deal, "keys h, stream mask, stream a, " ANGLES ", out corrections, n",                                   \
      STEP.turns_deal(H(0), N(1), N(2), angles(s + 3), W(7), N(8)))                                                  \
    K(turns_combine, "keys h, stream a, in? corrections, in c, in coefficients, " ANGLES ", constant, out z, n",     \
      STEP.turns_combine(H(0), N(1), W(2), W(3), W(4), angles(s + 5), N(9), W(10), N(11)))                           \
    K(powers_dealt, "in r, step, segments, shift, out z, n",                                                         \
      STEP.powers_dealt(W(0), N(1), (unsigned)N(2), (unsigned)N(3), W(4), N(5)))                                     \
    K(powers_public, "in c, start, step, segments, in mantissas, in shifts, out z, n",                               \
      STEP.powers_public(W(0), N(1), N(2), (unsigned)N(3), W(4), W(5), W(6), N(7)))                                  \
    K(powers_deal, "keys h, stream mask, stream a, " WINDOW ", out corrections, n",                                  \
      STEP.powers_deal(H(0), N(1), N(2), window(s + 3), W(8), N(9)))                                                 \
    K(powers_combine, "keys h, stream a, in? corrections, in c, " WINDOW ", in mantissas, in shifts, constant, out z, n",\
      STEP.powers_combine(H(0), N(1), W(2), W(3), window(s + 4), W(9), W(10), N(11), W(12), N(13)))                  \
    K(gaussian, "in words, in thresholds, count, factor, inout z, out tied, n",                                      \
      STEP.gaussian(W(0), W(1), N(2), N(3), W(4), W(5), N(6)))                                                       \
    K(encode, "keys h, stream a, in values, size, bits, out z, n",                                                   \
      STEP.encode(H(0), N(1), W(2), (unsigned)N(3), (unsigned)N(4), W(5), N(6)))                                     \
    K(truncate_local, "in z, bits, lead, out x, n", KERNEL->truncate_local(W(0), N(1), (int)N(2), W(3), N(4)))       \
    /* bits (bits.inc.h) */                                                                                          \
    K(pack_bits, "in x, out packed, n", KERNEL->pack_bits(W(0), W(1), N(2)))                                         \
    K(unpack_bits, "in packed, out x, n", KERNEL->unpack_bits(W(0), W(1), N(2)))                                     \
    K(decompose, "in x, out planes, n", KERNEL->decompose(W(0), W(1), N(2)))                                         \
    /* matrices: strides of a, b, and words between rows of c (matmul.h) */                                          \
    F(matmul, "view a, a_first, a_row, a_col, view b, b_first, b_row, b_col, out c, c_first, ldc, m, n, k",          \
      psm_matmul(N(11), N(12), N(13), view(s), view(s + 4), W(8) + N(9), (ptrdiff_t)N(10), 0))                       \
    F(matmul_add, "view a, a_first, a_row, a_col, view b, b_first, b_row, b_col, inout c, c_first, ldc, m, n, k",    \
      psm_matmul(N(11), N(12), N(13), view(s), view(s + 4), W(8) + N(9), (ptrdiff_t)N(10), 1))                       \
    /* streams (rounds.h) */                                                                                         \
    K(draw, "keys h, stream a, in? corrections, out z, n", STEP.draw(H(0), N(1), W(2), W(3), N(4)))                  \
    K(mask, "keys h, stream a, in x, out z, n", STEP.mask(H(0), N(1), W(2), W(3), N(4)))                             \
    K(deal_sum, "keys h, stream a, out z, n", STEP.deal_sum(H(0), N(1), W(2), N(3)))                                 \
    K(deal_take, "keys h, stream a, inout z, n", STEP.deal_take(H(0), N(1), W(2), N(3)))                             \
    /* products with Beaver's triples (rounds.h, product.h) */                                                       \
    K(beaver_mul, "keys h, in d, in y, in a, in e, inout z, n",                                                      \
      STEP.beaver_mul(H(0), W(1), W(2), W(3), W(4), W(5), N(6)))                                                     \
    K(beaver_square, "keys h, in d, in x, in a, inout z, n",                                                         \
      STEP.beaver_square(H(0), W(1), W(2), W(3), W(4), N(5)))                                                        \
    F(product_deal, MASKS ", keys h, stream c, out corrections", enter_product_deal_(s))                           \
    F(product_combine, PRODUCT ", keys h, stream c, in? corrections, out z", enter_product_combine_(s))              \
    F(product_masks, MASKS ", keys h, out z", enter_product_masks_(s))                                             \
    F(product_part, PRODUCT ", keys h, out z", enter_product_part_(s))                                               \
    /* truncation (truncate.inc.h) */                                                                                \
    K(truncate_deal, "keys h, stream base, divisor d, out corrections, n, in? owed, factor",                         \
      STEP.truncate_deal(H(0), N(1), *DIVISOR(2), W(5), N(6), W(3), N(4)))                                           \
    K(truncate_mask, "keys h, stream base, offset, in z, inout message, n, factor, halves",                            \
      STEP.truncate_mask(H(0), N(1), N(2), N(6), W(3), W(4), (unsigned)N(7), N(5)))                                  \
    K(truncate_finish, "keys h, stream base, divisor d, in c, in? corrections, out z, n, in? x, halves",             \
      STEP.truncate_finish(H(0), N(1), *DIVISOR(2), W(3), (unsigned)N(8), W(4), W(7), W(5), N(6)))                   \
    /* truncation by a power of two, of what is opened again (reopen.inc.h) */                                       \
    K(add_lanes, "in x, in y, out z, n", KERNEL->add_lanes(W(0), W(1), W(2), N(3)))                                  \
    K(reopen_deal, "keys h, stream base, divisor d, out corrections, n",                                             \
      STEP.reopen_deal(H(0), N(1), *DIVISOR(2), W(3), N(4)))                                                         \
    K(reopen_mask, "keys h, stream base, divisor d, in z, in? corrections, out message, n",                          \
      STEP.reopen_mask(H(0), N(1), *DIVISOR(2), W(3), W(4), W(5), N(6)))                                             \
    K(reopen_finish, "keys h, stream base, divisor d, in c, in? corrections, out z, n",                              \
      STEP.reopen_finish(H(0), N(1), *DIVISOR(2), W(3), W(4), W(5), N(6)))                                           \
    K(reopen_message, "keys h, stream base, divisor d, in c, in v, out message, n",                                  \
      STEP.reopen_message(H(0), N(1), *DIVISOR(2), W(3), W(4), W(5), N(6)))                                          \
    K(reopen_opened, "divisor d, in c, in lanes, out z, n",                                                          \
      STEP.reopen_opened(*DIVISOR(0), W(1), W(2), W(3), N(4)))                                                       \
    /* products without an opening (affine.inc.h) */                                                                 \
    K(affine_mul_deal, "keys h, stream base, " MASKED("x_") ", " MASKED("y_") ", out corrections, n",                \
      STEP.affine_deal(H(0), N(1), &(psm_known[]){masked(s + 2)}[0], &(psm_known[]){masked(s + 6)}[0], W(10), N(11)))  \
    K(affine_square_deal, "keys h, stream base, " MASKED("x_") ", out corrections, n",                               \
      STEP.affine_deal(H(0), N(1), &(psm_known[]){masked(s + 2)}[0], NULL, W(6), N(7)))                              \
    K(affine_mul, "keys h, stream base, " KNOWN("x_") ", " KNOWN("y_") ", in x, in y, in? corrections, out z, n",    \
      STEP.affine_finish(H(0), N(1), &(psm_known[]){known(s + 2)}[0], &(psm_known[]){known(s + 5)}[0], W(8), W(9),   \
                         W(10), W(11), N(12)))                                                                       \
    K(affine_square, "keys h, stream base, " KNOWN("x_") ", in x, in? corrections, out z, n",                        \
      STEP.affine_finish(H(0), N(1), &(psm_known[]){known(s + 2)}[0], NULL, W(5), W(5), W(6), W(7), N(8)))           \
    /* comparison (compare.inc.h) */                                                                                 \
    K(compare_deal, "keys h, stream base, nodes, out corrections, n, known, in? masks",                              \
      STEP.compare_deal(H(0), N(1), (int)N(2), (int)N(5), W(6), W(3), N(4)))                                         \
    K(compare_chunks, "keys h, stream base, nodes, in? corrections, in c, offset, out state, out message, n, "       \
                      "stream known",                                                                                \
      STEP.compare_chunks(H(0), N(1), N(9), (int)N(2), W(3), W(4), N(5), W(6), W(7), N(8)))                          \
    K(compare_nodes, "keys h, stream base, nodes, in? corrections, in opened, in state, out sign, out message, n, "  \
                     "known",                                                                                        \
      STEP.compare_nodes(H(0), N(1), (int)N(2), (int)N(9), W(3), W(4), W(5), W(6), W(7), N(8)))                      \
    K(compare_root, "keys h, stream base, nodes, in? corrections, in opened, in sign, out message, n, known",        \
      STEP.compare_root(H(0), N(1), (int)N(2), (int)N(8), W(3), W(4), W(5), W(6), N(7)))                             \
    /* comparisons with many ends (thresholds.h) */                                                                  \
    K(thresholds_deal, "keys h, " ENDS ", nodes, known, out corrections, n",                                         \
      psm_thresholds_deal(H(0), ends(s + 1), (int)N(5), (int)N(6), W(7), N(8)))                                      \
    K(thresholds_chunks, "keys h, " ENDS ", stream known, nodes, in? monomials, in c, in offsets, out state, "       \
                         "out message, n",                                                                           \
      psm_thresholds_chunks_all(H(0), ends(s + 1), N(5), (int)N(6), W(7), W(8), W(9), W(10), W(11), N(12)))          \
    K(thresholds_nodes, "keys h, " ENDS ", nodes, known, in? corrections, in opened, in state, out sign, "           \
                        "out message, n",                                                                            \
      psm_thresholds_nodes(H(0), ends(s + 1), (int)N(5), (int)N(6), W(7), W(8), W(9), W(10), W(11), N(12)))          \
    K(thresholds_root, "keys h, " ENDS ", nodes, known, in? corrections, in opened, in sign, out message, n",        \
      psm_thresholds_root(H(0), ends(s + 1), (int)N(5), (int)N(6), W(7), W(8), W(9), W(10), N(11)))                  \
    K(thresholds_sums, "keys h, " ENDS ", nodes, known, in? corrections, in betas, in weights, in constants, sums, " \
                       "row, between, out z, n",                                                                     \
      psm_thresholds_sums_all(H(0), ends(s + 1), (int)N(5), (int)N(6), W(7), W(8), W(9), W(10), N(11), N(12), N(13), \
                              W(14), N(15)))                                                                         \
    /* bits and selection (select.inc.h) */                                                                          \
    K(bit_deal, "keys h, stream rho, stream a, out corrections, n", STEP.bit_deal(H(0), N(1), N(2), W(3), N(4)))     \
    K(bit_share, "keys h, in beta, in rho, out z, n", STEP.bit_share(H(0), W(1), W(2), W(3), N(4)))                  \
    K(select_deal, "keys h, stream base, stream rho, divisor? d, out corrections, n",                                \
      STEP.select_deal(H(0), N(1), N(2), DIVISOR(3), W(4), N(5)))                                                    \
    K(select_finish, "keys h, stream base, divisor? d, flip, in c, in beta, in rho, in? corrections, out z, n",      \
      STEP.select_finish(H(0), N(1), DIVISOR(2), (int)N(3), W(4), W(5), W(6), W(7), W(8), N(9)))                     \
    /* function secret sharing (fss.h) */                                                                            \
    K(fss_deal, "keys h, stream base, function f, in alpha, in values, in others, n, first, last, out key",          \
      FSS.deal(H(0), N(1), FUNCTION(2), W(3), W(4), W(5), N(6), N(7), N(8), W(9)))                                   \
    K(fss_eval, "keys h, stream base, function f, in key, in x, shift, n, first, last, inout z",                     \
      FSS.eval(H(0), N(1), FUNCTION(2), W(3), W(4), N(5), N(6), N(7), N(8), W(9)))                                   \
    K(fss_bits_deal, "keys h, stream mask, stream base, function f, first, last, out key",                           \
      FSS.bits_deal(H(0), N(1), N(2), FUNCTION(3), N(4), N(5), W(6)))                                                \
    K(fss_bits_eval, "keys h, stream base, function f, in key, in x, shift, n, first, last, inout z",                \
      FSS.bits_eval(H(0), N(1), FUNCTION(2), W(3), W(4), N(5), N(6), N(7), N(8), W(9)))                              \
    /* SecureNN (securenn.h) */                                                                                      \
    K(securenn_bits, "keys h, stream a, in x, out z, n", psm_securenn_bits(H(0), N(1), W(2), W(3), N(4)))            \
    K(securenn_compare, "keys h, stream bits, keys pair, stream base, in? corrections, in r, less, out message, n",  \
      psm_securenn_compare(H(0), N(1), H(2), N(3), W(4), W(5), (int)N(6), W(7), N(8)))                               \
    K(securenn_found, "in messages, out z, n", psm_securenn_found(W(0), W(1), N(2)))                                 \
    K(securenn_sum, "keys h, stream a, in x, out sum, out carry, n",                                                 \
      psm_securenn_sum(H(0), N(1), W(2), W(3), W(4), N(5)))                                                          \
    K(securenn_answer, "keys h, stream a, in found, out z, n", psm_securenn_answer(H(0), N(1), W(2), W(3), N(4)))    \
    K(securenn_total, "keys h, stream a, out z, n", psm_securenn_total(H(0), N(1), W(2), N(3)))                      \
    K(securenn_finish, "keys h, stream own, keys pair, stream base, before, after, in a, in? delta, in? eta, "       \
                       "out z, n",                                                                                   \
      psm_securenn_finish(H(0), N(1), H(2), N(3), N(4), N(5), W(6), W(7), W(8), W(9), N(10)))                        \
    K(securenn_double, "keys h, stream a, in y, out z, n", psm_securenn_double(H(0), N(1), W(2), W(3), N(4)))        \
    K(securenn_opened, "rows, in total, in messages, out z, n", psm_securenn_opened(N(0), W(1), W(2), W(3), N(4)))   \
    /* numbers mod 2^128 (wide.h) */                                                                                 \
    K(wide_pack, "sets, in x, in? m, subtract, out z, n",                                                            \
      psm_wide_pack_all(N(0), W(1), W(2), (int)N(3), W(4), N(5)))                                                    \
    K(wide_combine, "sets, in? z, in? x, in? d, in? a, in? e, out loose, n",                                         \
      psm_wide_combine_all(N(0), W(1), W(2), W(3), W(4), W(5), W(6), N(7)))                                          \
    K(wide_affine, "sets, in v, in factors, in? dealt, in? c, out z, n",                                             \
      psm_wide_affine_all(N(0), W(1), W(2), W(3), W(4), W(5), N(6)))                                                 \
    K(wide_deal, "keys h, stream a, first, in? v, upper, low, high, out z, n",                                       \
      psm_wide_deal_all(H(0), N(1), N(2), W(3), (int)N(4), N(5), N(6), W(7), N(8)))                                  \
    F(wide_matmul, "sets, batch, m, n, k, view d, d_batch, d_row, d_col, view y, y_set, y_half, y_batch, y_row, "    \
                   "y_col, left, inout z",                                                                           \
      psm_wide_matmul(N(0), N(1), N(2), N(3), N(4), wide_view(s + 5, s + 6), wide_view(s + 9, s + 12),               \
                      (ptrdiff_t)N(10), (ptrdiff_t)N(11), (int)N(15), W(16)))                                        \
    K(wide_sums, "parts, in coins, list halves, out z, n",                                                           \
      psm_wide_sums_all(N(0), W(1), (const u64 *const *)s[2], W(3), N(4)))                                           \
    K(wide_leaves_deal, "keys h, stream mask, stream a, alpha, out z, n",                                            \
      psm_wide_leaves_deal_all(H(0), N(1), N(2), N(3), W(4), N(5)))                                                  \
    K(wide_leaves, "keys h, stream a, in? corrections, in c, in factors, out z, out top, n",                         \
      psm_wide_leaves_all(H(0), N(1), W(2), W(3), W(4), W(5), W(6), N(7)))                                           \
    K(wide_join_deal, "keys h, stream masks, stream a, alpha, out z, n",                                             \
      psm_wide_join_deal_all(H(0), N(1), N(2), N(3), W(4), N(5)))                                                    \
    K(wide_join, "keys h, stream masks, in? mask_corrections, stream a, in? corrections, in x, in opened, out z, n", \
      psm_wide_join_all(H(0), N(1), W(2), N(3), W(4), W(5), W(6), W(7), N(8)))                                       \
    K(wide_factors, "keys h, stream masks, in? corrections, in x, in y, out packed, out rest, out code, n",          \
      psm_wide_factors_all(H(0), N(1), W(2), W(3), W(4), W(5), W(6), W(7), N(8)))                                    \
    K(wide_count, "in packed, rows, out z, n", psm_wide_count_all(W(0), N(1), W(2), N(3)))

static int enter_product_deal_(const u64 *s) {
    psm_product p = masks(s);
    return psm_product_deal(H(26), &p, N(27), W(28));
}

static int enter_product_combine_(const u64 *s) {
    psm_product p = product(s);
    return psm_product_combine(H(30), &p, N(31), W(32), W(33));
}

static int enter_product_masks_(const u64 *s) {
    psm_product p = masks(s);
    return psm_product_masks(H(26), &p, W(27));
}

static int enter_product_part_(const u64 *s) {
    psm_product p = product(s);
    return psm_product_part(H(30), &p, W(31));
}

#define SURE(name, declared, call)                                                                                   \
    static int enter_##name(const u64 *s) {                                                                          \
        call;                                                                                                        \
        return 0;                                                                                                    \
    }
#define MAY_FAIL(name, declared, call)                                                                               \
    static int enter_##name(const u64 *s) { return call; }
KERNELS(SURE, MAY_FAIL)

#define LINE(name, declared, call) {#name, declared, enter_##name},
const psm_entry psm_entries[] = {KERNELS(LINE, LINE){NULL, NULL, NULL}};

int psm_run(const psm_entry *const *entries, const size_t *starts, const u64 *slots, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (entries[i]->enter(slots + starts[i]))
            return -1;
    return 0;
}
