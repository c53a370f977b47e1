/* Ring product by AVX2, which has no 64-bit multiplication.
 *
 * x*y = lo(x)*lo(y) + 2^32*(lo(x)*hi(y) + hi(x)*lo(y)). The first product is
 * vpmuludq, summed in 64 bits; the two cross products are one vpmulld of x by
 * y with its halves exchanged, summed mod 2^32 and folded once at the end:
 * 5 uops for 4 products, against 8 when each product is completed at once.
 * Winograd's inner product (matmul_avx512.inc.h) halves them again, for 3 more.
 *
 * A strip is, for each 4 k, [4 rows][4 k]; then 4 row sums. A panel is two halves of
 * four columns, each [k][4 columns]; then 4 column sums: whole lines of the cache are
 * read of B, and a strip that was fetched for the first half is near for the second.
 */

#include "unroll.h"

enum { MM_STRIP = 4, MM_NR = 8, MM_ROWS = 4, MM_UNIT = 8, MM_TURNS = 1, MM_KC = 256, MM_MC = 512 };

static inline size_t mm_strip_words(size_t k) {
    return 16 * ((k + 3) / 4) + 4;
}

static inline size_t mm_panel_words(size_t k) {
    return 2 * mm_strip_words(k);
}

/* r[i] = column i becomes r[i] = row i */
static inline void avx2_transpose(__m256i r[4]) {
    __m256i a = _mm256_unpacklo_epi64(r[0], r[1]), b = _mm256_unpackhi_epi64(r[0], r[1]);
    __m256i c = _mm256_unpacklo_epi64(r[2], r[3]), d = _mm256_unpackhi_epi64(r[2], r[3]);

    r[0] = _mm256_permute2x128_si256(a, c, 0x20);
    r[1] = _mm256_permute2x128_si256(b, d, 0x20);
    r[2] = _mm256_permute2x128_si256(a, c, 0x31);
    r[3] = _mm256_permute2x128_si256(b, d, 0x31);
}

/* r[i] = row i of the 4 x 4 block at v, zero beyond rows and cols */
static inline void avx2_square(__m256i r[4], psm_view v, size_t rows, size_t cols) {
    const __m256i lane = _mm256_set_epi64x(3, 2, 1, 0);
    int by_columns = v.col != 1;
    size_t lines = by_columns ? cols : rows, length = by_columns ? rows : cols;
    ptrdiff_t line = by_columns ? v.col : v.row, step = by_columns ? v.row : v.col;
    __m256i mask = _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)length), lane);
    __m256i index = _mm256_set_epi64x(3 * step, 2 * step, step, 0);

    for (size_t i = 0; i < 4; i++) {
        const long long *at = (const long long *)v.data + (ptrdiff_t)(i < lines ? i : 0) * line;
        r[i] = _mm256_setzero_si256();
        if (i < lines && step == 1 && length >= 4)
            r[i] = _mm256_loadu_si256((const __m256i *)at);
        else if (i < lines)
            r[i] = step == 1 ? _mm256_maskload_epi64(at, mask)
                             : _mm256_mask_i64gather_epi64(r[i], at, index, mask, 8);
    }
    if (by_columns)
        avx2_transpose(r);
}

/* Sums of products of words, whose cross products (above) wait to be folded. */
typedef struct {
    __m256i low, cross;
} avx2_sum;

static inline __attribute__((always_inline))
void avx2_add_product(avx2_sum *sum, __m256i x, __m256i y) {
    sum->low = _mm256_add_epi64(sum->low, _mm256_mul_epu32(x, y));
    sum->cross = _mm256_add_epi32(sum->cross, _mm256_mullo_epi32(x, _mm256_shuffle_epi32(y, 0xb1)));
}

static inline __m256i avx2_folded(avx2_sum sum) {
    __m256i both = _mm256_add_epi32(sum.cross, _mm256_shuffle_epi32(sum.cross, 0xb1));

    return _mm256_add_epi64(sum.low, _mm256_slli_epi64(both, 32));
}

static void mm_pack_strip(psm_view a, size_t rows, size_t k, u64 *out) {
    const __m256i zero = _mm256_setzero_si256();
    avx2_sum upper = {zero, zero}, lower = {zero, zero}; /* rows 0, 1, 0, 1 and 2, 3, 2, 3 */

    for (size_t p = 0; p < k; p += 4, out += 16) {
        __m256i r[4];
        psm_view at = {a.data + (ptrdiff_t)p * a.col, a.row, a.col};
        avx2_square(r, at, rows, k - p);
        for (int i = 0; i < 4; i++)
            _mm256_store_si256((__m256i *)out + i, r[i]);
        avx2_add_product(&upper, _mm256_unpacklo_epi64(r[0], r[1]), _mm256_unpackhi_epi64(r[0], r[1]));
        avx2_add_product(&lower, _mm256_unpacklo_epi64(r[2], r[3]), _mm256_unpackhi_epi64(r[2], r[3]));
    }
    __m256i x = avx2_folded(upper), y = avx2_folded(lower);
    _mm256_store_si256((__m256i *)out, _mm256_add_epi64(_mm256_permute2x128_si256(x, y, 0x20),
                                                        _mm256_permute2x128_si256(x, y, 0x31)));
}

/* four k of one half of a panel, from a line of B for each k */
static inline __attribute__((always_inline))
void avx2_pack_rows(__m256i r[4], u64 *out, avx2_sum *sum) {
    for (int i = 0; i < 4; i++)
        _mm256_store_si256((__m256i *)out + i, r[i]);
    avx2_add_product(sum, r[0], r[1]);
    avx2_add_product(sum, r[2], r[3]);
}

static void mm_pack_panel(psm_view b, size_t k, size_t cols, u64 *out) {
    const __m256i zero = _mm256_setzero_si256();
    u64 *second = out + mm_strip_words(k);
    avx2_sum sum = {zero, zero}, sum2 = {zero, zero};

    for (size_t p = 0; p < k; p += 4, out += 16, second += 16) {
        __m256i r[4];
        psm_view at = {b.data + (ptrdiff_t)p * b.row, b.row, b.col};
        avx2_square(r, at, k - p, cols);
        avx2_pack_rows(r, out, &sum);
        if (cols <= 4) continue;
        at.data += 4 * b.col;
        avx2_square(r, at, k - p, cols - 4);
        avx2_pack_rows(r, second, &sum2);
    }
    _mm256_store_si256((__m256i *)out, avx2_folded(sum));
    if (cols > 4)
        _mm256_store_si256((__m256i *)second, avx2_folded(sum2));
}

/* the compiler may not regroup what leads to x: it would spill the tile */
#define AVX2_KEEP(x) __asm__("" : "+x"(x))

/* two k of a row, at a, and of four columns */
static inline __attribute__((always_inline))
void avx2_step(const u64 *a, const u64 *b, __m256i *low, __m256i *cross) {
    __m256i x = _mm256_add_epi64(_mm256_set1_epi64x((long long)a[0]), _mm256_load_si256((const __m256i *)b + 1));
    __m256i y = _mm256_add_epi64(_mm256_set1_epi64x((long long)a[1]), _mm256_load_si256((const __m256i *)b));
    __m256i turned = _mm256_shuffle_epi32(y, 0xb1);
    *low = _mm256_add_epi64(*low, _mm256_mul_epu32(x, y));
    *cross = _mm256_add_epi32(*cross, _mm256_mullo_epi32(x, turned));
    AVX2_KEEP(*low);
    AVX2_KEEP(*cross);
}

/* out [rows][8]: rows of a strip from `row` on, one or two, by four columns or twice four */
static inline __attribute__((always_inline))
void avx2_rows(int rows, int fours, const u64 *strip, size_t row, const u64 *b, size_t k, u64 *out) {
    size_t next = mm_strip_words(k);
    const u64 *row_sums = strip + next - 4 + row, *column_sums = b + next - 4;
    const u64 *a = strip + 4 * row, *second = b + next, *end = column_sums;
    __m256i low[2][2], cross[2][2];

    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int j = 0; j < fours; j++) low[i][j] = cross[i][j] = _mm256_setzero_si256();
    for (; b != end; a += 16, b += 16, second += 16) { /* zeros are behind k */
        __asm__("" : "+r"(a), "+r"(b), "+r"(second));
        PSM_UNROLL
        for (int p = 0; p < 4; p += 2)
            PSM_UNROLL
            for (int i = 0; i < rows; i++) {
                avx2_step(a + 4 * i + p, b + 4 * p, &low[i][0], &cross[i][0]);
                if (fours > 1) avx2_step(a + 4 * i + p, second + 4 * p, &low[i][1], &cross[i][1]);
            }
    }
    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int j = 0; j < fours; j++) {
            __m256i squares = _mm256_add_epi64(_mm256_set1_epi64x((long long)row_sums[i]),
                                               _mm256_load_si256((const __m256i *)(column_sums + j * next)));
            __m256i sum = avx2_folded((avx2_sum){low[i][j], cross[i][j]});
            _mm256_store_si256((__m256i *)(out + MM_NR * i) + j, _mm256_sub_epi64(sum, squares));
        }
}

static void mm_tile(const u64 *strip, size_t row, size_t rows, const u64 *panel, size_t cols,
                      size_t k, u64 *out) {
    (void)row;
    for (size_t i = 0; i < rows; i += 2, out += 2 * MM_NR)
        switch (2 * (rows - i > 1) + (cols > 4)) {
        case 0: avx2_rows(1, 1, strip, i, panel, k, out); break;
        case 1: avx2_rows(1, 2, strip, i, panel, k, out); break;
        case 2: avx2_rows(2, 1, strip, i, panel, k, out); break;
        default: avx2_rows(2, 2, strip, i, panel, k, out); break;
        }
}
