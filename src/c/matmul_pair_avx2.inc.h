/* The two products of two holders in one sweep: c[h] (+)= x[h] @ e + d @ y[h] mod 2^64, for h = 1, 2.
 *
 * Winograd's inner product (matmul_avx512.inc.h) of a row of d and x[h] with a column of e and y[h] is
 *     sum over k of (d + e)(x[h] + y[h])  =  x[h] e + d y[h] + sum of d x[h] + sum of e y[h],
 * of which the last two sums belong to a row and to a column.  d and e are public, so that d + e, and the
 * exchange of its halves, serve both holders: 12 operations for the 16 products of four columns, where
 * matmul_avx2.inc.h takes 14, and everything public is gathered and packed once.
 *
 * Rows (of d, x[1], x[2]) and columns (of e, y[1], y[2]) are packed alike: four at a time, for each k
 * three vectors of four; then the two sums of products of the first with the others.  Words that stand at positions (the
 * windows of a convolution) are packed from where they are.
 */

enum { PAIR = 4, PAIR_WORDS = 3 * PAIR, PAIR_NR = 2 * PAIR, PAIR_KC = 96, PAIR_MC = 128, PAIR_NC = 1024 };

static inline size_t pair_words(size_t k) { return PAIR_WORDS * ((k + 3) / 4 * 4) + 2 * PAIR; }

/* Whether four places follow one another: it does not follow from the first and the last, as in 0, 2, 1, 3. */
static inline int pair_dense(const ptrdiff_t *p) {
    return p[1] - p[0] == 1 && p[2] - p[1] == 1 && p[3] - p[2] == 1;
}

/* Where the words of four rows and four k lie: anywhere, or in lines along k, or in lines along rows. */
enum pair_lines { PAIR_ANYHOW, PAIR_ALONG_K, PAIR_ALONG_ROWS };

/* r[j] = four rows of one k, for four k: words data[at[i] + deep[j]], zeros beyond `rows` and k.  One load for four
 * words that follow one another, along the rows or along k. */
static inline __attribute__((always_inline))
void pair_square(enum pair_lines lines, __m256i r[4], const u64 *data, const ptrdiff_t *at, size_t rows,
                 const ptrdiff_t *deep, size_t k) {
    int whole = rows >= PAIR && k >= 4;
    if (whole && (lines == PAIR_ALONG_ROWS || (lines == PAIR_ANYHOW && pair_dense(at)))) {
        for (size_t j = 0; j < 4; j++) r[j] = _mm256_loadu_si256((const __m256i *)(data + at[0] + deep[j]));
    } else if (whole && (lines == PAIR_ALONG_K || (lines == PAIR_ANYHOW && pair_dense(deep)))) {
        for (size_t i = 0; i < 4; i++) r[i] = _mm256_loadu_si256((const __m256i *)(data + at[i] + deep[0]));
        avx2_transpose(r);
    } else {
        _Alignas(32) u64 words[4][4] = {{0}};
        for (size_t j = 0; j < k && j < 4; j++)
            for (size_t i = 0; i < rows && i < PAIR; i++) words[j][i] = data[at[i] + deep[j]];
        for (size_t j = 0; j < 4; j++) r[j] = _mm256_load_si256((const __m256i *)words[j]);
    }
}

/* Four rows and four k of the three matrices, and what they add to the two sums. */
static inline __attribute__((always_inline))
void pair_block(enum pair_lines lines, const psm_places *v, const ptrdiff_t *at, size_t rows, const ptrdiff_t *deep,
                size_t k, u64 *out, avx2_sum sums[2]) {
    __m256i first[4], r[4], *to = (__m256i *)out;
    pair_square(lines, first, v->data[0], at, rows, deep, k);
    for (int i = 0; i < 4; i++) _mm256_store_si256(to + 3 * i, first[i]);
    PSM_UNROLL
    for (int h = 0; h < 2; h++) {
        pair_square(lines, r, v->data[1 + h], at, rows, deep, k);
        for (int i = 0; i < 4; i++) {
            _mm256_store_si256(to + 3 * i + 1 + h, r[i]);
            avx2_add_product(&sums[h], r[i], first[i]);
        }
    }
}

/* Up to eight rows of k words, four and four: lines of the cache along a column are read whole.  `ahead`: from a row to
 * that whose words are asked for meanwhile, or 0. */
static inline __attribute__((always_inline))
void pair_rows(enum pair_lines lines, const psm_places *v, const ptrdiff_t *at, size_t rows, const ptrdiff_t *deep,
               size_t k, ptrdiff_t ahead, u64 *out) {
    const __m256i zero = _mm256_setzero_si256();
    size_t next = pair_words(k);
    avx2_sum sums[2][2] = {{{zero, zero}, {zero, zero}}, {{zero, zero}, {zero, zero}}};
    for (size_t p = 0; p < k; p += 4) {
        u64 *to = out + PAIR_WORDS * p;
        if (ahead && lines == PAIR_ALONG_K && p % 8 == 0)
            for (int s = 0; s < 3; s++)
                for (size_t i = 0; i < PAIR_NR; i++) __builtin_prefetch(v->data[s] + at[i] + deep[p] + ahead);
        if (ahead && lines == PAIR_ALONG_ROWS)
            for (int s = 0; s < 3; s++)
                for (size_t j = 0; j < 4 && p + j < k; j++) __builtin_prefetch(v->data[s] + at[0] + deep[p + j] + ahead);
        pair_block(lines, v, at, rows, deep + p, k - p, to, sums[0]);
        if (rows > PAIR) pair_block(lines, v, at + PAIR, rows - PAIR, deep + p, k - p, to + next, sums[1]);
    }
    for (size_t four = 0; four < 2 && four * PAIR < rows; four++)
        for (int h = 0; h < 2; h++)
            _mm256_store_si256((__m256i *)(out + (four + 1) * next - 2 * PAIR) + h, avx2_folded(sums[four][h]));
}

static void pair_places(const ptrdiff_t *places, ptrdiff_t step, size_t first, size_t count, ptrdiff_t *out) {
    for (size_t i = 0; i < count; i++) out[i] = places ? places[first + i] : (ptrdiff_t)(first + i) * step;
}

/* Rows from `row` on of all `count`, eight at most, [rows][k]. */
static void pair_pack(const psm_places *v, size_t row, size_t count, size_t first, size_t k, u64 *out) {
    ptrdiff_t at[PAIR_NR], deep[PAIR_KC];
    size_t rows = mm_min(PAIR_NR, count - row);
    ptrdiff_t ahead = count - row >= 2 * PAIR_NR ? PAIR_NR * v->row : 0;
    pair_places(v->rows, v->row, row, rows, at);
    pair_places(v->cols, v->col, first, k, deep);
    if (!v->rows && v->col == 1 && rows == PAIR_NR)
        pair_rows(PAIR_ALONG_K, v, at, PAIR_NR, deep, k, ahead, out);
    else if (!v->rows && v->row == 1 && rows == PAIR_NR)
        pair_rows(PAIR_ALONG_ROWS, v, at, PAIR_NR, deep, k, ahead, out);
    else
        pair_rows(PAIR_ANYHOW, v, at, rows, deep, k, 0, out);
}

/* one k of a row, at a, and of four columns */
static inline __attribute__((always_inline))
void pair_step(const u64 *a, const u64 *b, __m256i low[2], __m256i cross[2]) {
    const __m256i *column = (const __m256i *)b;
    __m256i x = _mm256_add_epi64(_mm256_set1_epi64x((long long)a[0]), _mm256_load_si256(column));
    __m256i turned = _mm256_shuffle_epi32(x, 0xb1);
    PSM_UNROLL
    for (int h = 0; h < 2; h++) {
        __m256i y = _mm256_add_epi64(_mm256_set1_epi64x((long long)a[PAIR * (1 + h)]), _mm256_load_si256(column + 1 + h));
        low[h] = _mm256_add_epi64(low[h], _mm256_mul_epu32(x, y));
        cross[h] = _mm256_add_epi32(cross[h], _mm256_mullo_epi32(turned, y));
        AVX2_KEEP(low[h]);
        AVX2_KEEP(cross[h]);
    }
}

/* out [holder], `apart` words apart, (+)= a row at `a`, of four, times four columns or twice four.  With eight a turn reads nine vectors for 24
 * operations, where Zen 3 has two loads of them for four operations; two rows of four columns read twelve. */
static inline __attribute__((always_inline))
void pair_columns(int fours, const u64 *a, const u64 *b, size_t k, u64 *out, size_t apart, int accumulate) {
    size_t next = pair_words(k);
    const u64 *row_sums = a + next - 2 * PAIR, *column_sums = b + next - 2 * PAIR, *end = a + PAIR_WORDS * k;
    const u64 *second = b + next;
    __m256i low[2][2], cross[2][2];

    PSM_UNROLL
    for (int i = 0; i < fours; i++)
        PSM_UNROLL
        for (int h = 0; h < 2; h++) low[i][h] = cross[i][h] = _mm256_setzero_si256();
    for (; a < end; a += 2 * PAIR_WORDS, b += 2 * PAIR_WORDS, second += 2 * PAIR_WORDS) { /* zeros are behind k */
        __asm__("" : "+r"(a), "+r"(b), "+r"(second));
        PSM_UNROLL
        for (int p = 0; p < 2 * PAIR_WORDS; p += PAIR_WORDS) {
            pair_step(a + p, b + p, low[0], cross[0]);
            if (fours > 1) pair_step(a + p, second + p, low[1], cross[1]);
        }
    }
    PSM_UNROLL
    for (int i = 0; i < fours; i++)
        PSM_UNROLL
        for (int h = 0; h < 2; h++) {
            const __m256i *column = (const __m256i *)(column_sums + i * next);
            __m256i less = _mm256_add_epi64(_mm256_set1_epi64x((long long)row_sums[PAIR * h]), _mm256_load_si256(column + h));
            __m256i sum = _mm256_sub_epi64(avx2_folded((avx2_sum){low[i][h], cross[i][h]}), less);
            __m256i *to = (__m256i *)(out + apart * h) + i;
            if (accumulate) sum = _mm256_add_epi64(sum, _mm256_loadu_si256(to));
            _mm256_storeu_si256(to, sum);
        }
}

/* Functions of their own: inlined, the loop above has its counter in memory, an addition of six cycles. */
static __attribute__((noinline))
void pair_four(const u64 *a, const u64 *b, size_t k, u64 *out, size_t apart, int accumulate) {
    pair_columns(1, a, b, k, out, apart, accumulate);
}

static __attribute__((noinline))
void pair_eight(const u64 *a, const u64 *b, size_t k, u64 *out, size_t apart, int accumulate) {
    pair_columns(2, a, b, k, out, apart, accumulate);
}

/* packed rows times packed columns, four at a time; whole lines of c are written, which lie far apart */
static void pair_sweep(const u64 *strips, size_t m, const u64 *panels, size_t cols, size_t k, u64 *c, size_t next,
                       ptrdiff_t row, ptrdiff_t col, int accumulate) {
    _Alignas(64) u64 tile[2 * PAIR_NR];
    for (size_t i = 0; i < m; i += PAIR, strips += pair_words(k)) {
        size_t rows = mm_min(PAIR, m - i);
        if (col == 1)
            for (size_t h = 0; h < 2; h++) mm_fetch(c + h * next, rows, row);
        for (size_t r = 0; r < rows; r++, c += row) {
            if (col == 1 && cols == PAIR_NR) {
                pair_eight(strips + r, panels, k, c, next, accumulate);
                continue;
            }
            (cols > PAIR ? pair_eight : pair_four)(strips + r, panels, k, tile, PAIR_NR, 0);
            for (size_t h = 0; h < 2; h++) mm_store(tile + h * PAIR_NR, 1, cols, c + h * next, row, col, accumulate);
        }
    }
}

/* whether the transposed product wastes clearly less: columns come in fours */
static inline int pair_turn(size_t m, size_t n) {
    return 5 * mm_blocks(m, PAIR) * PAIR * n < 4 * mm_blocks(n, PAIR) * PAIR * m;
}

static size_t psm_matmul_pair_work(size_t m, size_t n, size_t k) {
    size_t rows = mm_part(mm_min(pair_turn(m, n) ? n : m, PAIR_MC), PAIR_MC, PAIR);
    size_t cols = mm_part(mm_min(pair_turn(m, n) ? m : n, PAIR_NC), PAIR_NC, PAIR_NR);
    return (rows + cols) / PAIR * pair_words(mm_part(k, PAIR_KC, PAIR)) + 8;
}

/* Rows [m][k] and columns [n][k].  Up to PAIR_NC columns are packed once and meet each block of rows. */
static void pair_product(size_t m, size_t n, size_t k, const psm_places *rows, const psm_places *columns, u64 *c,
                         size_t next, ptrdiff_t row, ptrdiff_t col, int accumulate, u64 *work) {
    size_t kc = mm_part(k, PAIR_KC, PAIR), mc = mm_part(m, PAIR_MC, PAIR), nc = mm_part(n, PAIR_NC, PAIR_NR);
    u64 *strips = (u64 *)(((uintptr_t)work + 63) & ~(uintptr_t)63), *panels = strips + mc / PAIR * pair_words(kc);
    for (size_t begin = 0; begin < n; begin += nc)
        for (size_t p = 0; p < k; p += kc)
            for (size_t i = 0; i < m; i += mc) {
                size_t kp = mm_min(kc, k - p), mi = mm_min(mc, m - i);
                for (size_t s = 0; s < mi; s += PAIR_NR)
                    pair_pack(rows, i + s, i + mi, p, kp, strips + s / PAIR * pair_words(kp));
                for (size_t j = begin; j < n && j < begin + nc; j += PAIR_NR) {
                    u64 *panel = panels + (j - begin) / PAIR * pair_words(kp);
                    size_t cols = mm_min(PAIR_NR, n - j);
                    if (i == 0) pair_pack(columns, j, n, p, kp, panel);
                    pair_sweep(strips, mi, panel, cols, kp, c + (ptrdiff_t)i * row + (ptrdiff_t)j * col, next, row, col,
                               accumulate || p > 0);
                }
            }
}

static psm_places pair_turned(const psm_places *v) {
    return (psm_places){{v->data[0], v->data[1], v->data[2]}, v->col, v->row, v->cols, v->rows};
}

static void psm_matmul_pair(size_t m, size_t n, size_t k, const psm_places *x, const psm_places *y, u64 *c, size_t next,
                            ptrdiff_t ldc, int accumulate, u64 *work) {
    psm_places columns = pair_turned(y);
    if (k == 0 && !accumulate)
        for (size_t h = 0; h < 2; h++) mm_clear(m, n, c + h * next, ldc, 1);
    if (pair_turn(m, n))
        pair_product(n, m, k, &columns, x, c, next, 1, ldc, accumulate, work);
    else
        pair_product(m, n, k, x, &columns, c, next, ldc, 1, accumulate, work);
}
