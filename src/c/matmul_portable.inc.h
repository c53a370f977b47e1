/* Ring product in plain C: tiles of 4 x 4 words, for any machine with a 64-bit
 * multiplier, two k by one multiplication (Winograd, see matmul_avx512.inc.h).
 * A strip is [k][4], k rounded up to even, then 4 row sums; a panel is the same
 * of columns. */

enum { MM_STRIP = 4, MM_NR = 4, MM_ROWS = 4, MM_UNIT = 8, MM_TURNS = 1, MM_KC = 256, MM_MC = 512 };
enum { PLAIN_SIDE = 4 };

static inline size_t mm_strip_words(size_t k) {
    return PLAIN_SIDE * (k + k % 2 + 1);
}

static inline size_t mm_panel_words(size_t k) {
    return mm_strip_words(k);
}

/* out[k][4], rows of `a` becoming columns; what is missing is zero */
static void mm_pack_strip(psm_view a, size_t rows, size_t k, u64 *out) {
    u64 *sums = out + mm_strip_words(k) - PLAIN_SIDE;

    memset(out, 0, mm_strip_words(k) * sizeof(u64));
    for (size_t i = 0; i < rows; i++) {
        for (size_t p = 0; p < k; p++)
            out[p * PLAIN_SIDE + i] = a.data[(ptrdiff_t)i * a.row + (ptrdiff_t)p * a.col];
        for (size_t p = 0; p < k; p += 2)
            sums[i] += out[p * PLAIN_SIDE + i] * out[(p + 1) * PLAIN_SIDE + i];
    }
}

static void mm_pack_panel(psm_view b, size_t k, size_t cols, u64 *out) {
    mm_pack_strip((psm_view){b.data, b.col, b.row}, cols, k, out);
}

static void mm_tile(const u64 *strip, size_t row, size_t rows, const u64 *panel, size_t cols,
                    size_t k, u64 *out) {
    const u64 *x = strip + mm_strip_words(k) - PLAIN_SIDE, *y = panel + mm_panel_words(k) - PLAIN_SIDE;
    u64 sum[PLAIN_SIDE][PLAIN_SIDE];

    (void)row, (void)rows, (void)cols;
    for (size_t i = 0; i < PLAIN_SIDE; i++)
        for (size_t j = 0; j < PLAIN_SIDE; j++)
            sum[i][j] = 0 - x[i] - y[j];
    for (size_t p = 0; p < k; p += 2, strip += 2 * PLAIN_SIDE, panel += 2 * PLAIN_SIDE)
        for (size_t i = 0; i < PLAIN_SIDE; i++)
            for (size_t j = 0; j < PLAIN_SIDE; j++)
                sum[i][j] += (strip[i] + panel[PLAIN_SIDE + j]) * (strip[PLAIN_SIDE + i] + panel[j]);
    memcpy(out, sum, sizeof sum);
}
