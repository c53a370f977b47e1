/* Does a kernel branch on secrets or index by them?  Memcheck answers (Langley, ctgrind, 2010): what is
 * secret is marked as undefined memory, and a jump or an address that depends on it is reported.
 *
 *     valgrind --quiet ./constant_time portable|avx2 [planted]
 *
 * prints a line for each kernel of psm_kernels: its name and `ok`, `leaks`, or `void` where the outputs
 * do not depend on the secrets any more and so the check would tell nothing.  Exit status 1 unless all
 * are ok.  Keys, shares, corrections and openings are secret; lengths, streams, divisors and who leads
 * are public.  `planted` checks three functions that do leak instead.
 *
 * Whoever adds a kernel adds a CHECK; tests/security/test_constant_time.py looks for it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/memcheck.h>

#include "dispatch.h"
#include "fss.h"
#include "product.h"
#include "securenn.h"
#include "wide_product.h"
#include "wide_sums.h"

enum { MOST = 1100, WORDS = (MOST + 63) / 64, HOLDERS = 3, ROOM = 240 * 64 * WORDS / 8 };
enum { SIDE = 37, SIDES = SIDE * SIDE };

/* a..h are inputs, out and out2 outputs; one of them holds the material of a whole comparison */
static u64 a[ROOM], b[ROOM], c[ROOM], d[ROOM], e[ROOM], out[ROOM], out2[ROOM], out3[ROOM], work[1 << 20];
static const psm_kernels *chosen;
static uint8_t key[16];
static psm_aes_key keys[HOLDERS];
static psm_epochs epochs; /* one more than are kept expanded */
static uint8_t epoch_keys[PSM_RECENT + 1][16];
static int failed;

/* for rounds.c and product.c; the targets for AVX-512, which Valgrind cannot run, are not linked */
const psm_kernels *psm_kernels_get(void) { return chosen; }
psm_vectors psm_dispatch_vectors(void) { return strcmp(chosen->name, "avx2") ? PSM_SCALARS : PSM_AVX2; }

#define SECRET(x) VALGRIND_MAKE_MEM_UNDEFINED(x, sizeof(x))
#define PUBLIC(x) VALGRIND_MAKE_MEM_DEFINED(x, sizeof(x))

/* once: what the inputs are does not matter, only that they are secret */
static void filled(void) {
    u64 *arrays[] = {a, b, c, d, e};
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < ROOM; j++) arrays[i][j] = (j + i) * 0x9E3779B97F4A7C15 ^ j << 17;
}

/* inputs and keys are secret, and outputs depend on nothing; marks alone, as Valgrind takes its time for words */
static void fresh(void) {
    PUBLIC(out), PUBLIC(out2), PUBLIC(out3);
    memset(keys, 0x5A, sizeof keys);
    epochs = (psm_epochs){PSM_RECENT + 1, PSM_RECENT + 1, epoch_keys[0], {{{0}, NULL}}};
    for (int i = 0; i < PSM_RECENT; i++) SECRET(epochs.recent[i].bytes);
    memset(key, 0xA5, sizeof key);
    SECRET(a), SECRET(b), SECRET(c), SECRET(d), SECRET(e), SECRET(epoch_keys), SECRET(key);
    for (int i = 0; i < HOLDERS; i++) {
        keys[i].epochs = NULL;
        SECRET(keys[i].bytes);
    }
}

/* whether anything in memory depends on a secret */
static int tainted(void *memory, size_t bytes) {
    static unsigned char bits[1 << 12];
    for (size_t i = 0, n; i < bytes; i += n) {
        n = bytes - i < sizeof bits ? bytes - i : sizeof bits;
        if (VALGRIND_GET_VBITS((char *)memory + i, bits, n) != 1) return 0;
        for (size_t j = 0; j < n; j++)
            if (bits[j]) return 1;
    }
    return 0;
}

static unsigned before;

static void begin(void) {
    fresh();
    before = VALGRIND_COUNT_ERRORS;
}

static void end(const char *name, int depends) {
    const char *verdict = VALGRIND_COUNT_ERRORS != before ? "leaks" : depends ? "ok" : "void";
    printf("%s %s\n", name, verdict);
    failed |= strcmp(verdict, "ok") != 0;
}

#define CHECK_INTO(result, name, ...)                       \
    do {                                                    \
        begin();                                            \
        __VA_ARGS__;                                        \
        end(#name, tainted(&(result), sizeof(result)));     \
    } while (0)
#define CHECK(name, ...) CHECK_INTO(out, name, k->name(__VA_ARGS__))

static void streams(const psm_kernels *k, size_t n) {
    psm_aes_key expanded;
    CHECK_INTO(expanded, aes_expand, k->aes_expand(key, &expanded));
    CHECK(aes_blocks, keys, (uint8_t *)a, (uint8_t *)out, n / 2);
    CHECK(prg_fill, keys, 7, 3, out, n);
    CHECK(prg_add, keys, 7, 3, a, out, n);
    CHECK(prg_sub, keys, 7, 2, a, out, n);
    CHECK(prg_xor, keys, 7, 2, a, out, n);
    psm_aes_key root = {{0}, &epochs};
    for (u64 epoch = 0; epoch <= PSM_RECENT; epoch += PSM_RECENT) CHECK(prg_fill, &root, epoch << PSM_EPOCH, 3, out, n);
}

static void arithmetic(const psm_kernels *k, size_t n) {
    CHECK(add, a, b, out, n);
    CHECK(sub, a, b, out, n);
    CHECK(mul, a, b, out, n);
    CHECK(xor_, a, b, out, n);
    CHECK(scale, a, 12345, out, n);
    CHECK(rows_sum, a, HOLDERS, out, n);
    CHECK(rows_xor, a, HOLDERS, out, n);
    CHECK(rows_extremes, a, HOLDERS, n, out);
    CHECK(weighted, a, b, 5, out, n, 0, n);
    CHECK(combinations, a, 3, b, c, 2, out, n, 0, n);
    CHECK(beaver_mul, a, b, c, d, out, n);
    CHECK(beaver_square, a, b, c, out, n);
    CHECK(pack_bits, a, out, n);
    CHECK(unpack_bits, a, out, n);
    CHECK(decompose, a, out, n);
    CHECK(turns, a, 9, out, n, 0, n);
    /* coefficients are public */
    static const u64 both[] = {3, 0, 5, 7, 9, 0};
    psm_angles angles = {12345, 3, 300, 15}, rounded = {12345, 3, 300, 36};
    CHECK(turns_deal, keys, HOLDERS, 16, 17, &angles, out, n, 0, n);
    CHECK(turns_combine, keys, HOLDERS, 1, 17, b, a, both, &rounded, out, n, 0, n);
    CHECK(powers_dealt, a, 12345, 2, 22, out, n, 0, n);
    psm_window window = {7, 12345, 300, 2, 22};
    CHECK(powers_deal, keys, HOLDERS, 16, 17, &window, out, n, 0, n);
    /* what was opened is public, and tables are indexed by it: never by what is dealt */
    static const u64 opened[MOST] = {1, 12345, (u64)-7}, mantissas[4] = {1, 2, 3, 4}, shifts[4] = {3, 2, 1, 9};
    CHECK(powers_combine, keys, HOLDERS, 1, 17, b, opened, &window, mantissas, shifts, out, n, 0, n);
    CHECK(gaussian, a, b, 9, 12345, c, out, 0, n);
    CHECK(encode, a, 4, 65536.0, out, 0, n);
    CHECK(encode, a, 8, 65536.0, out, 0, n);
}

static void products(const psm_kernels *k, size_t m, size_t n, size_t depth) {
    psm_view x = {a, (ptrdiff_t)depth, 1}, y = {b, (ptrdiff_t)n, 1};
    if (k->matmul_work(m, n, depth) > sizeof work / sizeof *work) abort();
    CHECK(matmul, m, n, depth, x, y, out, (ptrdiff_t)n, 0, work);
    CHECK(matmul, m, n, depth, x, y, out, (ptrdiff_t)n, 1, work);
    if (!k->matmul_pair) return;
    psm_places rows = {{a, b, c}, x.row, 1, NULL, NULL}, columns = {{b, c, a}, y.row, 1, NULL, NULL};
    if (k->matmul_pair_work(m, n, depth) > sizeof work / sizeof *work || 2 * m * n > sizeof out / sizeof *out) abort();
    CHECK(matmul_pair, m, n, depth, &rows, &columns, out, m * n, (ptrdiff_t)n, 0, work);
    CHECK(matmul_pair, m, n, depth, &rows, &columns, out, m * n, (ptrdiff_t)n, 1, work);
}

static void windows(const psm_kernels *k, size_t m, size_t n, size_t count) {
    ptrdiff_t rows[SIDE], taps[SIDE];
    for (size_t i = 0; i < SIDE; i++) rows[i] = (ptrdiff_t)(3 * i), taps[i] = (ptrdiff_t)(5 * i);
    CHECK(lanes, m, n, a, b, taps, count, out, count, 0);
    CHECK(lanes, m, n, a, b, taps, count, out, count, 1);
    CHECK(dots, m, n, count, a, rows, b, taps, out);
}

static void filters(const psm_kernels *k) {
    ptrdiff_t at[25 * PSM_FILTER_LANES];
    for (ptrdiff_t i = 0; i < 25 * PSM_FILTER_LANES; i++) at[i] = i % 3 ? i : -1;
    for (int fours = 0; fours < 2; fours++) {
        CHECK(filter_windows, a, at, PSM_FILTER_LANES, fours, 3, out, PSM_FILTER_LANES);
        CHECK(filter_taps, a, at, PSM_FILTER_LANES, fours, out, PSM_FILTER_LANES);
    }
    CHECK(filter_results, a, PSM_FILTER_LANES, out);
}

static void truncations(const psm_kernels *k, psm_divisor by, size_t n) {
    CHECK(truncate_deal, keys, HOLDERS, 16, by, a, 7, 0, n, out, n);
    CHECK(truncate_mask, keys, 16, by.offset, 7, a, out, 0, 0, n);
    CHECK(truncate_mask, keys, 16, by.offset, 7, a, out, 2, 0, n);
    for (int lead = 0; lead < 2; lead++) {
        CHECK(truncate_finish, keys, 16, by, lead, a, 0, lead ? NULL : b, b, out, 0, n, n);
        CHECK(truncate_finish, keys, 16, by, lead, a, 2, lead ? NULL : b, b, out, 0, n, n);
        CHECK(truncate_local, a, 16, lead, out, n);
    }
}

static void reopened(const psm_kernels *k, psm_divisor by, size_t n) {
    CHECK(add_lanes, a, b, out, n);
    CHECK(reopen_deal, keys, HOLDERS, 16, by.power, 0, n, out, n);
    for (int lead = 0; lead < 2; lead++) {
        const u64 *dealt = lead ? NULL : b;
        CHECK(reopen_mask, keys, 16, by.power, by.offset, a, dealt, out, 0, n);
        CHECK(reopen_finish, keys, 16, by, lead, a, dealt, out, 0, n, n);
        CHECK(reopen_message, keys, 16, by, lead, a, b, out, 0, n);
    }
    CHECK(reopen_opened, by, a, b, out, 0, n);
}

/* products of factors of two kinds that follow from dealt words, and squares */
static void without_openings(const psm_kernels *k, psm_divisor by, size_t n) {
    psm_known masked = {PSM_OPENED, 48, 3, NULL, a}, divided = {PSM_TRUNCATED, 52, 5, &by, b};
    CHECK(affine_deal, keys, HOLDERS, 16, &divided, &masked, n, 0, n, out);
    CHECK(affine_deal, keys, HOLDERS, 16, &divided, NULL, n, 0, n, out);
    for (int lead = 0; lead < 2; lead++) {
        const u64 *dealt = lead ? NULL : d;
        CHECK(affine_finish, keys, 16, &divided, &masked, lead, b, c, dealt, out, n, 0, n);
        CHECK(affine_finish, keys, 16, &divided, NULL, lead, b, b, dealt, out, n, 0, n);
    }
}

/* of two public ends; sums of their bits with public weights */
static void thresholds(const psm_kernels *k, size_t n) {
    static const u64 ends[2] = {1, 1 << 20}, weights[4] = {3, 5, 0, 7}, constants[2] = {11, 13};
    size_t words = (n + 63) / 64;
    for (int lead = 0; lead < 2; lead++) {
        const u64 *dealt = lead ? NULL : b;
        CHECK(thresholds_chunks, keys, 48, 32, 64, 16, 4, lead, dealt, a, ends, 2, n, 0, words, out2, out);
        CHECK(thresholds_sums, keys, 37, 69, 16, lead, dealt, n, a, 2, weights, constants, 2, n, 0, words, out, n);
    }
}

static void comparisons(const psm_kernels *k, size_t n) {
    size_t words = (n + 63) / 64;
    CHECK(compare_deal, keys, HOLDERS, 32, 4, NULL, n, 0, words, out, out2, out3);
    CHECK(compare_deal, keys, HOLDERS, 32, 4, a, n, 0, words, out, out2, out3);
    CHECK(compare_deal, keys, HOLDERS, 48, 4, NULL, n, 0, words, NULL, out, out2);
    for (int lead = 0; lead < 2; lead++) {
        const u64 *dealt = lead ? NULL : b;
        CHECK(compare_chunks, keys, 48, 32, 4, lead, dealt, a, 1, n, 0, words, out2, out);
        CHECK(compare_nodes, keys, 32, 4, lead, dealt, a, 0, words, c, out2, out);
        CHECK(compare_root, keys, 32, lead, dealt, a, 0, words, c, out);
    }
    thresholds(k, n);
}

static void selections(const psm_kernels *k, const psm_divisor *by, size_t n) {
    size_t words = (n + 63) / 64;
    CHECK(bit_deal, keys, HOLDERS, 46, 37, n, 0, words, out);
    CHECK(select_deal, keys, HOLDERS, 32, 46, by, n, 0, words, out);
    for (int lead = 0; lead < 2; lead++) {
        CHECK(bit_share, a, b, lead, out, n);
        CHECK(select_finish, keys, 32, by, lead, !lead, a, b, c, lead ? NULL : d, out, n, 0, words);
    }
}

static void third_party(const psm_kernels *k, size_t n) {
    size_t words = (n + 63) / 64;
    CHECK(snn_bits_deal, keys, 5, a, n, 0, words, out);
    CHECK(snn_found, a, b, 0, words, out);
    CHECK(odd_sum, keys, 5, a, b, out, out2, 0, n);
    CHECK(odd_bits, keys, 5, a, n, out, 0, n);
    CHECK(odd_total, keys, 5, out, 0, n);
    CHECK(odd_double, keys, 5, a, out, 0, n);
    CHECK(odd_opened, a, b, out, 0, n);
    for (int lead = 0; lead < 2; lead++) {
        const u64 *dealt = lead ? NULL : b;
        CHECK(snn_compare, keys, 5, keys + 1, 6, lead, dealt, a, lead, n, 0, words, out);
        CHECK(snn_compare, keys, 5, keys + 1, 6, lead, dealt, a, !lead, n, 0, words, out);
        CHECK(odd_finish, keys, 5, keys + 1, 6, lead, 1, 2, a, dealt, lead ? NULL : c, n, out, 0, n);
    }
}

/* one holder hashes with the same kind of key as it draws with: keys[2] stands for that of the salt */
static void functions(const psm_kernels *k, unsigned words, size_t n) {
    for (int less = 0; less < 2; less++) {
        psm_fss f = {63, words, less};
        CHECK(fss_deal, keys, 8, f, &keys[2], a, b, c, n, 0, n, 0, n, out);
        CHECK(fss_bits_deal, keys, 7, 8, less ? 63 : 64, less, &keys[2], 0, n, 0, (n + 63) / 64, out);
        for (unsigned rank = 0; rank < 2; rank++)
            CHECK(fss_eval, keys, 8, f, rank, &keys[2], a, b, 5, n, 0, n, 0, n, out);
        for (unsigned rank = 0; rank < 2; rank++)
            CHECK(fss_bits_eval, keys, 8, less ? 63 : 64, less, rank, &keys[2], a, b, 5, 0, n, 0, (n + 63) / 64, out);
    }
}

/* the coins are public, and tables are indexed by them */
static void authenticated(const psm_kernels *k, size_t n) {
    static u64 coins[MOST];
    for (size_t i = 0; i < n; i++) coins[i] = i * 0x9E3779B97F4A7C15;
    const u64 *both[] = {a, b}, *low[] = {a, NULL};
    CHECK_INTO(out, wide_sums, psm_wide_sums_all(1, coins, both, out, n));
    CHECK_INTO(out, wide_sums, psm_wide_sums_all(1, coins, low, out, n));
    for (int subtract = 0; subtract < 2; subtract++) CHECK(wide_pack, a, b, subtract, out, n, 0, n);
    CHECK(wide_combine, a, b, c, d, e, out, n, 0, n);
    CHECK(wide_affine, a, 3, b, c, out, n, 0, n);
    CHECK(wide_affine, a, 3, NULL, NULL, out, n, 0, n);
    CHECK(wide_deal, keys, HOLDERS, 7, 2 * n, a, 1, 3, 1, 1, out, n, 0, n);
    CHECK(wide_deal, keys, HOLDERS, 7, 0, NULL, 0, 0, 0, 0, out, n, 0, n);
    size_t few = n % 150;
    CHECK(wide_leaves_deal, keys, HOLDERS, 7, 8, 3, out, few, 0, few);
    CHECK(wide_leaves, keys, 8, NULL, a, 3, out, b, few, 0, few);
    CHECK(wide_leaves, keys, 8, c, a, 3, out, b, few, 0, few);
    CHECK(wide_join_deal, keys, HOLDERS, 7, 8, 3, out, few, 0, few);
    CHECK(wide_join, keys, 7, NULL, 8, NULL, a, b, out, few, 0, few);
    CHECK(wide_join, keys, 7, c, 8, d, a, b, out, few, 0, few);
    CHECK(wide_factors, keys, 7, c, a, b, out, d, e, few, 0, 3 * few);
    CHECK(wide_count, a, 2, out, n, 0, n);
    psm_wide_view rows = {a, 0, SIDE, 1}, columns = {b, 0, 1, SIDE};
    for (int left = 0; left < 2; left++)
        CHECK_INTO(out, wide_matmul,
                   psm_wide_matmul(2, 1, SIDE, SIDE, SIDE, rows, columns, 2 * SIDES, SIDES, left, out));
}

/* the code above the kernels, where positions come from public maps */
static void roles(size_t n) {
    psm_holders all = {keys, HOLDERS, 0, HOLDERS - 1};
    ptrdiff_t offsets[] = {0}, rows[SIDE], cols[SIDE], map[SIDES];
    for (ptrdiff_t i = 0; i < SIDE; i++) rows[i] = i * SIDE, cols[i] = i;
    for (ptrdiff_t i = 0; i < SIDES; i++) map[i] = i % 5 ? i : -1;
    psm_factor plain = {a, c, 5, SIDES, SIDE, 1, offsets, NULL, NULL, NULL};
    psm_factor mapped = {b, d, 6, SIDES, 0, 0, offsets, rows, cols, map, 1, SIDE, SIDES};
    psm_product p[] = {{plain, mapped, 1, SIDE, SIDE, SIDE}, {mapped, plain, 1, SIDE, SIDE, SIDE}};
    for (int i = 0; i < 2; i++) {
        CHECK_INTO(out, product_deal, psm_product_deal(&all, &p[i], 9, out));
        CHECK_INTO(out, product_combine, psm_product_combine(&all, &p[i], 9, e, out));
        CHECK_INTO(out, product_masks, psm_product_masks(&all, &p[i], out));
        CHECK_INTO(out, product_part, psm_product_part(&all, &p[i], out));
    }
    CHECK_INTO(out, draw, psm_steps_table.draw(&all, 3, a, out, n));
    CHECK_INTO(out, mask, psm_steps_table.mask(&all, 3, a, out, n));
    CHECK_INTO(out, deal_sum, psm_steps_table.deal_sum(&all, 3, out, n));
    CHECK_INTO(out, deal_take, psm_steps_table.deal_take(&all, 3, out, n));
}

/* the same of two holders: keys of functions for n elements, and SecureNN's steps for many */
static void two_holders(size_t n, size_t many) {
    psm_holders both = {keys, 2, 0, 1}, pair = {keys + 1, 2, 0, 1};
    for (int less = 0; less < 2; less++) {
        psm_fss f = {63, 2, less};
        CHECK_INTO(out, step_fss_deal, psm_fss_table.deal(&both, 3, f, a, b, c, n, 0, n, out));
        CHECK_INTO(out, step_fss_eval, psm_fss_table.eval(&both, 3, f, a, b, 5, n, 0, n, out));
        CHECK_INTO(out, step_fss_bits_deal, psm_fss_table.bits_deal(&both, 7, 3, f, 0, n, out));
        CHECK_INTO(out, step_fss_bits_eval, psm_fss_table.bits_eval(&both, 3, f, a, b, 5, n, 0, n, out));
        CHECK_INTO(out, step_snn_compare, psm_securenn_compare(&both, 5, &pair, 6, a, b, less, out, many));
    }
    CHECK_INTO(out, step_snn_bits, psm_securenn_bits(&both, 5, a, out, many));
    CHECK_INTO(out, step_snn_found, psm_securenn_found(a, out, many));
    CHECK_INTO(out, step_snn_sum, psm_securenn_sum(&both, 5, a, out, out2, many));
    CHECK_INTO(out, step_snn_answer, psm_securenn_answer(&both, 5, a, out, many));
    CHECK_INTO(out, step_snn_total, psm_securenn_total(&both, 5, out, many));
    CHECK_INTO(out, step_snn_finish, psm_securenn_finish(&both, 5, &pair, 6, 1, 2, a, b, c, out, many));
    CHECK_INTO(out, step_snn_double, psm_securenn_double(&both, 5, a, out, many));
    CHECK_INTO(out, step_snn_opened, psm_securenn_opened(2, a, b, out, many));
}

/* --- functions that leak: the check must see them ---------------------------------------------- */

static void __attribute__((noinline)) count(volatile u64 *total) { ++*total; }

static void planted_branch(const u64 *x, u64 *total, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (x[i] & 1) count(total);
}

static void planted_index(const u64 *x, u64 *total, size_t n) {
    for (size_t i = 0; i < n; i++) total[x[i] & 15] += 1;
}

static void planted_loop(const u64 *x, u64 *total, size_t n) {
    for (u64 i = 0; i < (x[0] & 7) + n; i++) total[0] += x[i];
}

int main(int argc, char **argv) {
    psm_divisor power = {.power = 16, .offset = (u64)1 << 62, .offset_quotient = (u64)1 << 46};
    psm_divisor by17 = {0xe1e1e1e1e1e1e1e2, 1, 4, 0, ((u64)1 << 62) / 17 * 17, ((u64)1 << 62) / 17};
    const psm_kernels *k = NULL;

    if (argc > 1 && strcmp(argv[1], "portable") == 0) chosen = k = &psm_kernels_portable;
#ifdef __x86_64__
    if (argc > 1 && strcmp(argv[1], "avx2") == 0) chosen = k = &psm_kernels_avx2;
#endif
    if (!k || !RUNNING_ON_VALGRIND) {
        fputs("usage: valgrind ./constant_time portable|avx2 [planted]\n", stderr);
        return 2;
    }
    setvbuf(stdout, NULL, _IONBF, 0);
    filled();
    if (argc > 2) {
        CHECK_INTO(out, planted_branch, planted_branch(a, out, 100));
        CHECK_INTO(out, planted_index, planted_index(a, out, 100));
        CHECK_INTO(out, planted_loop, planted_loop(a, out, 100));
        return failed;
    }
    for (size_t i = 0, lengths[] = {5, MOST}; i < 2; i++) {
        streams(k, lengths[i]);
        arithmetic(k, lengths[i]);
        authenticated(k, lengths[i]);
        roles(lengths[i]);
        truncations(k, power, lengths[i]);
        reopened(k, power, lengths[i]);
        without_openings(k, power, lengths[i]);
        without_openings(k, by17, lengths[i]);
        truncations(k, by17, lengths[i]);
        comparisons(k, lengths[i]);
        third_party(k, lengths[i]);
        selections(k, NULL, lengths[i]);
        selections(k, &power, lengths[i]);
        selections(k, &by17, lengths[i]);
        functions(k, 1, lengths[i] % 171);
        functions(k, 3, lengths[i] % 171);
        two_holders(lengths[i] % 171, lengths[i]);
    }
    products(k, SIDE, SIDE, SIDE);
    products(k, 3, 50, 9);
    products(k, 50, 3, 300);
    filters(k);
    windows(k, 7, SIDE, 45);
    windows(k, 2, 3, 24);
    return failed;
}
