/* Ring product by AVX-512DQ: vpmullq, 3 uops on 2 ports and 1 for the addition,
 * so 8 products in 2 cycles whatever the tile; a tile of 4 x 16 already hides
 * every latency and load. matmul_vnni.inc.h does better where VNNI exists.
 *
 * A strip is, for each 8 k, [8 rows][8 k]; a panel is [k][16 columns].
 */

#include "square_avx512.inc.h"
#include "unroll.h"

enum { MM_STRIP = 8, MM_NR = 16, MM_KC = 200, MM_MC = 512 };

static inline size_t mm_strip_words(size_t k) {
    return 64 * ((k + 7) / 8);
}

static inline size_t mm_panel_words(size_t k) {
    return 128 * ((k + 7) / 8);
}

static void mm_pack_strip(psm_view a, size_t rows, size_t k, u64 *out) {
    for (size_t p = 0; p < k; p += 8, out += 64) {
        __m512i r[8];
        psm_view at = {a.data + (ptrdiff_t)p * a.col, a.row, a.col};
        avx512_square(r, at, rows, k - p);
        for (int i = 0; i < 8; i++)
            _mm512_store_si512(out + 8 * i, r[i]);
    }
}

static void mm_pack_panel(psm_view b, size_t k, size_t cols, u64 *out) {
    for (size_t p = 0; p < k; p += 8)
        for (size_t j = 0; j < cols; j += 8) {
            __m512i r[8];
            psm_view at = {b.data + (ptrdiff_t)p * b.row + (ptrdiff_t)j * b.col, b.row, b.col};
            avx512_square(r, at, k - p, cols - j);
            for (int i = 0; i < 8; i++)
                _mm512_store_si512(out + 16 * (p + (size_t)i) + j, r[i]);
        }
}

/* the compiler may not regroup what leads to x: it would spill the tile */
#define MULLQ_KEEP(x) __asm__("" : "+v"(x))

/* one k of `rows` rows (a, a+8, ...) by `vectors` groups of eight columns */
static inline __attribute__((always_inline))
void mullq_step(int rows, int vectors, const u64 *a, const u64 *b, __m512i sum[4][2]) {
    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int v = 0; v < vectors; v++) {
            __m512i x = _mm512_set1_epi64((long long)a[8 * i]);
            __m512i y = _mm512_load_si512(b + 8 * v);
            sum[i][v] = _mm512_add_epi64(sum[i][v], _mm512_mullo_epi64(x, y));
            MULLQ_KEEP(sum[i][v]);
        }
}

static inline __attribute__((always_inline))
void mullq_rows(int rows, int vectors, const u64 *a, const u64 *b, size_t k, u64 *out) {
    __m512i sum[4][2];

    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int v = 0; v < vectors; v++)
            sum[i][v] = _mm512_setzero_si512();
    for (; k >= 8; k -= 8, a += 64, b += 128) {
        __asm__("" : "+r"(a), "+r"(b));
        mullq_step(rows, vectors, a, b, sum);
        mullq_step(rows, vectors, a + 1, b + 16, sum);
        mullq_step(rows, vectors, a + 2, b + 32, sum);
        mullq_step(rows, vectors, a + 3, b + 48, sum);
        mullq_step(rows, vectors, a + 4, b + 64, sum);
        mullq_step(rows, vectors, a + 5, b + 80, sum);
        mullq_step(rows, vectors, a + 6, b + 96, sum);
        mullq_step(rows, vectors, a + 7, b + 112, sum);
    }
    for (size_t p = 0; p < k; p++)
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

    switch (2 * rows + (cols > 8)) {
    case 2: mullq_rows(1, 1, a, panel, k, out); break;
    case 3: mullq_rows(1, 2, a, panel, k, out); break;
    case 4: mullq_rows(2, 1, a, panel, k, out); break;
    case 5: mullq_rows(2, 2, a, panel, k, out); break;
    case 6: mullq_rows(3, 1, a, panel, k, out); break;
    case 7: mullq_rows(3, 2, a, panel, k, out); break;
    case 8: mullq_rows(4, 1, a, panel, k, out); break;
    default: mullq_rows(4, 2, a, panel, k, out); break;
    }
}
