/* Ring product by AVX-512DQ and Winograd's inner product.
 *
 * vpmullq is 3 uops on two ports, and its sum 1 more: 8 uops for 16 products.
 * Over a commutative ring (Winograd, IEEE Trans. Comp. 1968)
 *
 *   a0*b0 + a1*b1 = (a0 + b1)*(a1 + b0) - a0*a1 - b0*b1
 *
 * where the last two are sums over a row of A and over a column of B, taken
 * while packing: one vpmullq for two k and three additions, 6 uops. Wrap-around
 * makes it exact.
 *
 * A strip is, for each 8 k, [8 rows][8 k]; then 8 row sums. A panel is
 * [k][16 columns]; then 16 column sums.
 */

#include "square_avx512.inc.h"
#include "unroll.h"

#define PSM_DIRECT_WIDE /* 32 registers: direct.inc.h */

enum { MM_STRIP = 8, MM_NR = 16, MM_ROWS = 4, MM_UNIT = 8, MM_TURNS = 1, MM_KC = 200, MM_MC = 512 };

static inline size_t mm_strip_words(size_t k) {
    return 64 * ((k + 7) / 8) + 8;
}

static inline size_t mm_panel_words(size_t k) {
    return 128 * ((k + 7) / 8) + 16;
}

static void mm_pack_strip(psm_view a, size_t rows, size_t k, u64 *out) {
    __m512i sum[8];

    for (int i = 0; i < 8; i++)
        sum[i] = _mm512_setzero_si512();
    for (size_t p = 0; p < k; p += 8, out += 64) {
        __m512i r[8];
        psm_view at = {a.data + (ptrdiff_t)p * a.col, a.row, a.col};
        avx512_square(r, at, rows, k - p);
        for (int i = 0; i < 8; i++) {
            __m512i next = _mm512_permutex_epi64(r[i], 0xb1);
            sum[i] = _mm512_add_epi64(sum[i], _mm512_maskz_mullo_epi64(0x55, r[i], next));
            _mm512_store_si512(out + 8 * i, r[i]);
        }
    }
    avx512_transpose(sum);
    for (int i = 4; i; i /= 2)
        for (int j = 0; j < i; j++)
            sum[j] = _mm512_add_epi64(sum[j], sum[j + i]);
    _mm512_store_si512(out, sum[0]);
}

static void mm_pack_panel(psm_view b, size_t k, size_t cols, u64 *out) {
    u64 *sums = out + 16 * ((k + 7) / 8 * 8);

    for (size_t j = 0; j < cols; j += 8) {
        __m512i sum = _mm512_setzero_si512();
        for (size_t p = 0; p < k; p += 8) {
            __m512i r[8];
            psm_view at = {b.data + (ptrdiff_t)p * b.row + (ptrdiff_t)j * b.col, b.row, b.col};
            avx512_square(r, at, k - p, cols - j);
            for (int i = 0; i < 8; i++)
                _mm512_store_si512(out + 16 * (p + (size_t)i) + j, r[i]);
            for (int i = 0; i < 8; i += 2)
                sum = _mm512_add_epi64(sum, _mm512_mullo_epi64(r[i], r[i + 1]));
        }
        _mm512_store_si512(sums + j, sum);
    }
}

/* the compiler may not regroup what leads to x: it would spill the tile */
#define MULLQ_KEEP(x) __asm__("" : "+v"(x))

/* two k of `rows` rows (a, a+8, ...) by `vectors` groups of eight columns */
static inline __attribute__((always_inline))
void mullq_step(int rows, int vectors, const u64 *a, const u64 *b, __m512i sum[4][2]) {
    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int v = 0; v < vectors; v++) {
            __m512i x = _mm512_add_epi64(_mm512_set1_epi64((long long)a[8 * i]),
                                         _mm512_load_si512(b + 16 + 8 * v));
            __m512i y = _mm512_add_epi64(_mm512_set1_epi64((long long)a[8 * i + 1]),
                                         _mm512_load_si512(b + 8 * v));
            sum[i][v] = _mm512_add_epi64(sum[i][v], _mm512_mullo_epi64(x, y));
            MULLQ_KEEP(sum[i][v]);
        }
}

static inline __attribute__((always_inline))
void mullq_rows(int rows, int vectors, const u64 *a, const u64 *b, size_t k, const u64 *row_sums,
                const u64 *column_sums, u64 *out) {
    __m512i sum[4][2];

    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int v = 0; v < vectors; v++) {
            __m512i squares = _mm512_add_epi64(_mm512_set1_epi64((long long)row_sums[i]),
                                               _mm512_load_si512(column_sums + 8 * v));
            sum[i][v] = _mm512_sub_epi64(_mm512_setzero_si512(), squares);
        }
    for (; k >= 8; k -= 8, a += 64, b += 128) {
        __asm__("" : "+r"(a), "+r"(b));
        mullq_step(rows, vectors, a, b, sum);
        mullq_step(rows, vectors, a + 2, b + 32, sum);
        mullq_step(rows, vectors, a + 4, b + 64, sum);
        mullq_step(rows, vectors, a + 6, b + 96, sum);
    }
    for (size_t p = 0; p < k; p += 2)
        mullq_step(rows, vectors, a + p, b + 16 * p, sum);
    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int v = 0; v < vectors; v++)
            _mm512_store_si512(out + 16 * i + 8 * v, sum[i][v]);
}

static void mm_tile(const u64 *strip, size_t row, size_t rows, const u64 *panel, size_t cols,
                    size_t k, u64 *out) {
    const u64 *a = strip + 8 * row;
    const u64 *x = strip + mm_strip_words(k) - 8 + row, *y = panel + mm_panel_words(k) - 16;

    switch (2 * rows + (cols > 8)) {
    case 2: mullq_rows(1, 1, a, panel, k, x, y, out); break;
    case 3: mullq_rows(1, 2, a, panel, k, x, y, out); break;
    case 4: mullq_rows(2, 1, a, panel, k, x, y, out); break;
    case 5: mullq_rows(2, 2, a, panel, k, x, y, out); break;
    case 6: mullq_rows(3, 1, a, panel, k, x, y, out); break;
    case 7: mullq_rows(3, 2, a, panel, k, x, y, out); break;
    case 8: mullq_rows(4, 1, a, panel, k, x, y, out); break;
    default: mullq_rows(4, 2, a, panel, k, x, y, out); break;
    }
}
