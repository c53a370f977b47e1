/* The body of wide_product.inc.h for AVX-512 with IFMA, which multiplies 52 bits by 52 and adds the lower or
 * the upper 52 of the 104.
 *
 * Of a word of y the limbs have 40 bits and 24.  Those of d are its lower 52 bits, to which the instruction
 * itself cuts a word, and its upper 12, which stand `m * ld + 1` words behind (packed() of wide_product.c).
 * Then a term is six instructions, which add to what they multiply:
 *     lower 52 bits x 40: both halves; lower 52 x 24: both halves; 12 x 40 and 12 x 24: the lower one, all there is.
 * Terms are below 2^53, so that 2^11 of them may be added; one multiplied by a word is 12 operations otherwise.
 */
enum { IFMA_LIMBS = 2, IFMA_ROWS = 4 };

static inline __attribute__((always_inline)) __m512i ifma_at(const u64 *p) { return _mm512_loadu_si512(p); }

/* sums + acc[0] + (acc[1] << 40) + (acc[2] << 52) + (acc[3] << 92) */
static inline void ifma_flush(const __m512i acc[4], u64 *sums) {
    avx512_v low, high, a[4];
    memcpy(a, acc, sizeof a), memcpy(&low, sums, sizeof low), memcpy(&high, sums + COLUMNS, sizeof high);
    high += (a[1] >> 24) + (a[2] >> 12) + (a[3] << 28);
    for (int j = 0; j < 3; j++) {
        avx512_v part = j == 0 ? a[0] : j == 1 ? a[1] << 40 : a[2] << 52;
        low += part;
        high -= (avx512_v)(low < part);
    }
    memcpy(sums, &low, sizeof low), memcpy(sums + COLUMNS, &high, sizeof high);
}

/* `rows` rows of d, and as many sums */
static inline __attribute__((always_inline)) void ifma_rows(size_t rows, size_t k, const u64 *d, const u64 *upper,
                                                            size_t ld, const u64 *limbs, u64 *sums) {
    __m512i acc[IFMA_ROWS][4];
    PSM_UNROLL for (size_t i = 0; i < rows; i++)
        PSM_UNROLL for (int j = 0; j < 4; j++) acc[i][j] = _mm512_setzero_si512();
    for (size_t t = 0; t < k; t++, limbs += IFMA_LIMBS * COLUMNS) {
        __m512i y0 = ifma_at(limbs), y1 = ifma_at(limbs + COLUMNS);
        PSM_UNROLL for (size_t i = 0; i < rows; i++) {
            __m512i d0 = _mm512_set1_epi64((long long)d[i * ld + t]);
            __m512i d1 = _mm512_set1_epi64((long long)upper[i * ld + t]);
            acc[i][0] = _mm512_madd52lo_epu64(acc[i][0], d0, y0);
            acc[i][2] = _mm512_madd52hi_epu64(acc[i][2], d0, y0);
            acc[i][1] = _mm512_madd52lo_epu64(acc[i][1], d0, y1);
            acc[i][3] = _mm512_madd52hi_epu64(acc[i][3], d0, y1);
            acc[i][2] = _mm512_madd52lo_epu64(acc[i][2], d1, y0);
            acc[i][3] = _mm512_madd52lo_epu64(acc[i][3], d1, y1);
        }
    }
    PSM_UNROLL for (size_t i = 0; i < rows; i++) ifma_flush(acc[i], sums + i * 2 * COLUMNS);
}

static void ifma_product(size_t m, size_t k, const u64 *d, size_t ld, const u64 *y, u64 *sums) {
    _Alignas(64) u64 limbs[DEPTH * IFMA_LIMBS * COLUMNS];
    const u64 *upper = d + m * ld + 1;
    for (size_t first = 0; first < k; first += DEPTH) {
        size_t depth = k - first < DEPTH ? k - first : DEPTH, i = 0;
        for (size_t t = 0; t < depth; t++) {
            const u64 *words = y + (first + t) * COLUMNS;
            u64 *at = limbs + t * IFMA_LIMBS * COLUMNS;
            for (int j = 0; j < COLUMNS; j++) at[j] = words[j] & (((u64)1 << 40) - 1), at[COLUMNS + j] = words[j] >> 40;
        }
        for (; i + IFMA_ROWS <= m; i += IFMA_ROWS)
            ifma_rows(IFMA_ROWS, depth, d + i * ld + first, upper + i * ld + first, ld, limbs, sums + i * 2 * COLUMNS);
        for (; i < m; i++)
            ifma_rows(1, depth, d + i * ld + first, upper + i * ld + first, ld, limbs, sums + i * 2 * COLUMNS);
    }
}
