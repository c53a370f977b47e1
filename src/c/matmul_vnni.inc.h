/* Ring product by AVX-512 and VNNI: 7 uops for 16 products, against 8 for
 * vpmullq (both on the same two ports).
 *
 * Write a = sum of 16-bit words a0..a3, and likewise b. Then mod 2^64
 *
 *   a*b = lo32(a)*lo32(b)
 *       + 2^32 * (a0*b2 + a2*b0)                       summed mod 2^32: "cross"
 *       + 2^48 * (a0*b3 + a1*b2 + a2*b1 + a3*b0)       summed mod 2^16: "high"
 *
 * The first is vpmuludq and vpaddq. `high` is one vpdpwssd of b by a with its
 * words in reverse order; being wanted mod 2^16 only, it does not care that the
 * instruction reads its words as signed. `cross` is one vpdpwssd for two k. Its
 * words do need a sign: both sides are packed as w - 2^15, and
 *
 *   v*w = (v-2^15)*(w-2^15) + 2^15*((v-2^15) + (w-2^15)) + 2^30
 *
 * so that the correction is a sum over a row of A and one over a column of B,
 * taken while packing (the constant vanishes, as a strip has an even number of
 * k). Every sum wraps harmlessly, so K is unbounded.
 *
 * A strip is two halves of 4 rows. A half is, for each 8 k, [4 rows][8 k] of a,
 * the same of a reversed, and (a2, a0, a2', a0') of [2 pairs of rows][4 pairs of
 * k][2 rows]; then 4 row sums. A panel is, for each 2 k, 16 columns of k, of
 * k + 1, and of (b0, b2, b0', b2'); then 16 column sums.
 */

#include "square_avx512.inc.h"
#include "unroll.h"

enum { MM_STRIP = 8, MM_NR = 16, MM_KC = 200, MM_MC = 256 };
enum { VNNI_REVERSED = 32, VNNI_CROSS = 64, VNNI_BLOCK = 80, VNNI_PAIR = 48 };

static inline size_t vnni_half_words(size_t k) {
    return VNNI_BLOCK * ((k + 7) / 8) + 8;
}

static inline size_t mm_strip_words(size_t k) {
    return 2 * vnni_half_words(k);
}

static inline size_t mm_panel_words(size_t k) {
    return 4 * VNNI_PAIR * ((k + 7) / 8) + 16;
}

/* (x | y) with every 16-bit word less 2^15 */
static inline __m512i vnni_centred(__m512i x, __m512i y) {
    return _mm512_ternarylogic_epi64(x, y, _mm512_set1_epi16((short)0x8000), 0x56);
}

static void mm_pack_strip(psm_view a, size_t rows, size_t k, u64 *out) {
    const __m512i reverse = _mm512_broadcast_i32x4(
        _mm_setr_epi8(6, 7, 4, 5, 2, 3, 0, 1, 14, 15, 12, 13, 10, 11, 8, 9));
    const __m512i even = _mm512_broadcast_i32x4(
        _mm_setr_epi8(4, 5, 0, 1, 12, 13, 8, 9, -1, -1, -1, -1, -1, -1, -1, -1));
    const __m512i odd = _mm512_broadcast_i32x4(
        _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 4, 5, 0, 1, 12, 13, 8, 9));
    const __m512i one = _mm512_set1_epi16(1);
    size_t half = vnni_half_words(k);
    __m512i sum[4];

    for (int i = 0; i < 4; i++)
        sum[i] = _mm512_setzero_si512();
    for (size_t p = 0; p < k; p += 8, out += VNNI_BLOCK) {
        __m512i r[8];
        psm_view at = {a.data + (ptrdiff_t)p * a.col, a.row, a.col};
        avx512_square(r, at, rows, k - p);
        for (int i = 0; i < 8; i += 2) {
            u64 *to = out + (i < 4 ? 0 : half);
            __m512i cross = vnni_centred(_mm512_shuffle_epi8(r[i], even),
                                         _mm512_shuffle_epi8(r[i + 1], odd));
            _mm512_store_si512(to + 8 * (i % 4), r[i]);
            _mm512_store_si512(to + 8 * (i % 4) + 8, r[i + 1]);
            to += VNNI_REVERSED + 8 * (i % 4);
            _mm512_store_si512(to, _mm512_shuffle_epi8(r[i], reverse));
            _mm512_store_si512(to + 8, _mm512_shuffle_epi8(r[i + 1], reverse));
            to += VNNI_CROSS - VNNI_REVERSED - 4 * (i % 4);
            _mm512_store_si512(to, cross);
            sum[i / 2] = _mm512_dpwssd_epi32(sum[i / 2], cross, one);
        }
    }
    for (int i = 0; i < 4; i++) {
        __m512i lanes = _mm512_add_epi64(sum[i], _mm512_srli_epi64(sum[i], 32));
        __m256i s = _mm256_add_epi64(_mm512_castsi512_si256(lanes),
                                     _mm512_extracti64x4_epi64(lanes, 1));
        _mm_store_si128((__m128i *)(out + (i < 2 ? 0 : half) + 2 * (i % 2)),
                        _mm_add_epi64(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1)));
    }
}

/* eight k by eight columns of a panel; returns the column sums, two to a column */
static inline __attribute__((always_inline))
__m512i vnni_pack_square(psm_view b, size_t rows, size_t cols, u64 *out, __m512i sum) {
    const __m512i first = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 1, 4, 5, -1, -1, -1, -1, 8, 9, 12, 13, -1, -1, -1, -1));
    const __m512i second = _mm512_broadcast_i32x4(
        _mm_setr_epi8(-1, -1, -1, -1, 0, 1, 4, 5, -1, -1, -1, -1, 8, 9, 12, 13));
    __m512i r[8];

    avx512_square(r, b, rows, cols);
    for (int i = 0; i < 8; i += 2, out += VNNI_PAIR) {
        __m512i cross = vnni_centred(_mm512_shuffle_epi8(r[i], first),
                                     _mm512_shuffle_epi8(r[i + 1], second));
        _mm512_store_si512(out, r[i]);
        _mm512_store_si512(out + 16, r[i + 1]);
        _mm512_store_si512(out + 32, cross);
        sum = _mm512_dpwssd_epi32(sum, cross, _mm512_set1_epi16(1));
    }
    return sum;
}

static void mm_pack_panel(psm_view b, size_t k, size_t cols, u64 *out) {
    __m512i left = _mm512_setzero_si512(), right = left;

    for (size_t p = 0; p < k; p += 8, out += 4 * VNNI_PAIR) {
        psm_view at = {b.data + (ptrdiff_t)p * b.row, b.row, b.col};
        left = vnni_pack_square(at, k - p, cols, out, left);
        if (cols > 8) {
            at.data += 8 * b.col;
            right = vnni_pack_square(at, k - p, cols - 8, out + 8, right);
        }
    }
    _mm512_store_si512(out, _mm512_add_epi64(left, _mm512_srli_epi64(left, 32)));
    _mm512_store_si512(out + 8, _mm512_add_epi64(right, _mm512_srli_epi64(right, 32)));
}

typedef struct {
    __m512i low[4][2], cross[4][2], high[4][2];
} vnni_sums;

/* The sums of the tile fill the registers: let no addition be regrouped. */
#define VNNI_KEEP(x) __asm__("" : "+v"(x))

/* two k, a and b at the `pair`th of their block, of `rows` rows by `vectors`
 * groups of eight columns */
static inline __attribute__((always_inline))
void vnni_step(int rows, int vectors, const u64 *a, int pair, const u64 *b, vnni_sums *s) {
    const u64 *whole = a + 2 * pair, *reversed = whole + VNNI_REVERSED;
    const u64 *cross = a + VNNI_CROSS + 2 * pair;

    b += VNNI_PAIR * pair;
    PSM_UNROLL
    for (int p = 0; p < 2; p++)
        PSM_UNROLL
        for (int i = 0; i < rows; i++)
            PSM_UNROLL
            for (int v = 0; v < vectors; v++) {
                __m512i x = _mm512_set1_epi64((long long)whole[8 * i + p]);
                __m512i turned = _mm512_set1_epi64((long long)reversed[8 * i + p]);
                __m512i y = _mm512_load_si512(b + 16 * p + 8 * v);
                s->low[i][v] = _mm512_add_epi64(s->low[i][v], _mm512_mul_epu32(x, y));
                s->high[i][v] = _mm512_dpwssd_epi32(s->high[i][v], turned, y);
                VNNI_KEEP(s->low[i][v]);
                VNNI_KEEP(s->high[i][v]);
            }
    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int v = 0; v < vectors; v++) {
            __m512i x = _mm512_set1_epi64((long long)cross[i / 2 * 8 + i % 2]);
            __m512i y = _mm512_load_si512(b + 32 + 8 * v);
            s->cross[i][v] = _mm512_dpwssd_epi32(s->cross[i][v], x, y);
            VNNI_KEEP(s->cross[i][v]);
        }
}

/* out = low + 2^32*cross + 2^48*high + 2^47*(row and column sums) */
static inline __attribute__((always_inline))
void vnni_finish(int rows, int vectors, const vnni_sums *s, const u64 *row_sums,
                 const u64 *column_sums, u64 *out) {
    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int v = 0; v < vectors; v++) {
            __m512i fix = _mm512_add_epi64(_mm512_set1_epi64((long long)row_sums[i]),
                                           _mm512_load_si512(column_sums + 8 * v));
            __m512i top = _mm512_add_epi32(s->cross[i][v], _mm512_slli_epi32(s->high[i][v], 16));
            top = _mm512_add_epi64(_mm512_slli_epi64(top, 32),
                                   _mm512_maskz_mov_epi32(0xaaaa, top));
            top = _mm512_add_epi64(top, _mm512_slli_epi64(fix, 47));
            _mm512_store_si512(out + 16 * i + 8 * v, _mm512_add_epi64(top, s->low[i][v]));
        }
}

static inline __attribute__((always_inline))
void vnni_rows(int rows, int vectors, const u64 *a, const u64 *b, size_t k, u64 *out) {
    const u64 *row_sums = a + vnni_half_words(k) - 8;
    const u64 *column_sums = b + mm_panel_words(k) - 16;
    vnni_sums s;

    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int v = 0; v < vectors; v++)
            s.low[i][v] = s.cross[i][v] = s.high[i][v] = _mm512_setzero_si512();
    for (;; k -= 8, a += VNNI_BLOCK, b += 4 * VNNI_PAIR) {
        __asm__("" : "+r"(a), "+r"(b));
        vnni_step(rows, vectors, a, 0, b, &s);
        vnni_step(rows, vectors, a, 1, b, &s);
        if (k <= 4) break;
        vnni_step(rows, vectors, a, 2, b, &s);
        vnni_step(rows, vectors, a, 3, b, &s);
        if (k <= 8) break;
    }
    vnni_finish(rows, vectors, &s, row_sums, column_sums, out);
}

static void mm_tile(const u64 *strip, size_t row, size_t rows, const u64 *panel, size_t cols,
                      size_t k, u64 *out) {
    const u64 *a = strip + row / 4 * vnni_half_words(k);

    switch (2 * rows + (cols > 8)) {
    case 2: vnni_rows(1, 1, a, panel, k, out); break;
    case 3: vnni_rows(1, 2, a, panel, k, out); break;
    case 4: vnni_rows(2, 1, a, panel, k, out); break;
    case 5: vnni_rows(2, 2, a, panel, k, out); break;
    case 6: vnni_rows(3, 1, a, panel, k, out); break;
    case 7: vnni_rows(3, 2, a, panel, k, out); break;
    case 8: vnni_rows(4, 1, a, panel, k, out); break;
    default: vnni_rows(4, 2, a, panel, k, out); break;
    }
}
