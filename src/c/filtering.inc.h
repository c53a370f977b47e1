/* Sums on either side of the products of filtering.h, for PSM_FILTER_LANES tiles (or filters, or channels) at once.
 *
 * Three results of a filter of three taps, y_i = sum over j of d_(i+j) g_j, take six products for nine:
 *     m_0 = g_0 (d_0 - d_1 - d_2),  m_1 = g_1 (d_2 - d_1 - d_3),  m_2 = g_2 (d_4 - d_2 - d_3),
 *     m_3 = (g_0 + g_1) d_1,        m_4 = (g_0 + g_2) d_2,        m_5 = (g_1 + g_2) d_3,
 *     y_0 = m_0 + m_3 + m_4,        y_1 = m_1 + m_3 + m_5,        y_2 = m_2 + m_4 + m_5:
 * Karatsuba's product of two polynomials of three terms, transposed (Winograd, 1980).  Nothing is divided, so it holds
 * mod 2^64.  In two dimensions the d_i, g_j, y_i and m_k are rows of the same once more: 36 products for 81.
 */

/* the sums of d in m_0 to m_5; words are `step` vectors apart */
CIRCUIT void filter_five(const vreg *d, int step, vreg m[6]) {
    m[0] = d[0] - (d[step] + d[2 * step]);
    m[1] = d[2 * step] - d[step] - d[3 * step];
    m[2] = d[4 * step] - (d[2 * step] + d[3 * step]);
    m[3] = d[step], m[4] = d[2 * step], m[5] = d[3 * step];
}

/* those of g */
CIRCUIT void filter_three(const vreg *g, int step, vreg m[6]) {
    m[0] = g[0], m[1] = g[step], m[2] = g[2 * step];
    m[3] = g[0] + g[step], m[4] = g[0] + g[2 * step], m[5] = g[step] + g[2 * step];
}

CIRCUIT void filter_six(const vreg *m, int step, vreg y[3]) {
    y[0] = m[0] + (m[3 * step] + m[4 * step]);
    y[1] = m[step] + (m[3 * step] + m[5 * step]);
    y[2] = m[2 * step] + (m[4 * step] + m[5 * step]);
}

/* Words at positions, of which -1 is a public zero; fours: where four of them always follow one another, or are all zeros.
 * Vectors are made in registers: loads of what was just stored word by word would wait for it. */
CIRCUIT vreg filter_get(const u64 *data, const ptrdiff_t *at, int fours) {
    vreg x = {0};
    if (fours && PSM_REGISTER <= 4) return *at < 0 ? x : psm_get(data + *at);
    for (int i = 0; i < PSM_REGISTER; i++) x[i] = at[i] < 0 ? 0 : data[at[i]];
    return x;
}

/* Words at positions [side * side][lanes], `span` apart, to sums [36][lanes], `apart` words apart.  The words of the next
 * square are `ahead`. */
CIRCUIT void filter_square(int side, int fours, const u64 *data, const ptrdiff_t *at, size_t span, ptrdiff_t ahead,
                           u64 *out, size_t apart) {
    for (size_t q = 0; q < PSM_FILTER_LANES; q += PSM_REGISTER) {
        vreg x[25], half[30], m[6];
        for (int i = 0; i < side * side; i++) {
            const ptrdiff_t *place = at + (size_t)i * span + q;
            x[i] = filter_get(data, place, fours);
            if (side == 5 && i % 2 == 0) __builtin_prefetch(data + (*place < 0 ? 0 : *place) + ahead);
        }
        for (int v = 0; v < side; v++) {
            side == 5 ? filter_five(x + v, side, m) : filter_three(x + v, side, m);
            for (int a = 0; a < 6; a++) half[a * side + v] = m[a];
        }
        for (int a = 0; a < 6; a++) {
            side == 5 ? filter_five(half + a * side, 1, m) : filter_three(half + a * side, 1, m);
            for (int b = 0; b < 6; b++) psm_put(out + (size_t)(6 * a + b) * apart + q, m[b]);
        }
    }
}

static void psm_filter_windows(const u64 *data, const ptrdiff_t *at, size_t span, int fours, ptrdiff_t ahead, u64 *out,
                               size_t apart) {
    if (fours) filter_square(5, 1, data, at, span, ahead, out, apart);
    else filter_square(5, 0, data, at, span, ahead, out, apart);
}

static void psm_filter_taps(const u64 *data, const ptrdiff_t *at, size_t span, int fours, u64 *out, size_t apart) {
    if (fours) filter_square(3, 1, data, at, span, 0, out, apart);
    else filter_square(3, 0, data, at, span, 0, out, apart);
}

/* products [36], `apart` words apart, to results [9][lanes] */
static void psm_filter_results(const u64 *products, size_t apart, u64 *out) {
    for (size_t at = 0; at < PSM_FILTER_LANES; at += PSM_REGISTER) {
        vreg m[6], half[18], y[3];
        for (int b = 0; b < 6; b++) {
            for (int a = 0; a < 6; a++) m[a] = psm_get(products + (size_t)(6 * a + b) * apart + at);
            filter_six(m, 1, y);
            for (int i = 0; i < 3; i++) half[6 * i + b] = y[i];
        }
        for (int i = 0; i < 3; i++) {
            filter_six(half + 6 * i, 1, y);
            for (int j = 0; j < 3; j++) psm_put(out + (size_t)(3 * i + j) * PSM_FILTER_LANES + at, y[j]);
        }
    }
}
