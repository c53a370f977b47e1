/* Ring product in plain C: tiles of 4 x 4 words, for any machine with a 64-bit
 * multiplier. A strip is [k][4], a panel [k][4]. */

enum { MM_STRIP = 4, MM_NR = 4, MM_KC = 256, MM_MC = 512 };
enum { PLAIN_SIDE = 4 };

static inline size_t mm_strip_words(size_t k) {
    return PLAIN_SIDE * k;
}

static inline size_t mm_panel_words(size_t k) {
    return PLAIN_SIDE * k;
}

/* out[k][4], rows of `a` becoming columns; missing rows are zero */
static void mm_pack_strip(psm_view a, size_t rows, size_t k, u64 *out) {
    for (size_t i = 0; i < PLAIN_SIDE; i++)
        for (size_t p = 0; p < k; p++)
            out[p * PLAIN_SIDE + i] =
                i < rows ? a.data[(ptrdiff_t)i * a.row + (ptrdiff_t)p * a.col] : 0;
}

static void mm_pack_panel(psm_view b, size_t k, size_t cols, u64 *out) {
    mm_pack_strip((psm_view){b.data, b.col, b.row}, cols, k, out);
}

static void mm_tile(const u64 *strip, size_t row, size_t rows, const u64 *panel, size_t cols,
                       size_t k, u64 *out) {
    u64 sum[PLAIN_SIDE][PLAIN_SIDE] = {{0}};

    (void)row, (void)rows, (void)cols;
    for (size_t p = 0; p < k; p++, strip += PLAIN_SIDE, panel += PLAIN_SIDE)
        for (size_t i = 0; i < PLAIN_SIDE; i++)
            for (size_t j = 0; j < PLAIN_SIDE; j++)
                sum[i][j] += strip[i] * panel[j];
    memcpy(out, sum, sizeof sum);
}
