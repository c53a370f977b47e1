/* Ring product on AMX tiles of unsigned bytes.
 *
 * A word is eight bytes: of the 64 products of bytes a_i * b_j the 36 with i + j < 8 matter mod 2^64, and
 * those of one weight w = i + j are summed in one tile of 32-bit words:
 *
 *   a*b = sum over w < 8 of 2^(8 w) * (sum over i + j = w of a_i * b_j)
 *
 * For w >= 4 only the sum mod 2^32 matters. For w < 4 it must fit, which bounds the depth of a slab: at
 * most 4 products of at most 255^2 for each k.
 *
 * A strip is, for each 64 k, eight tiles, one for each byte: [16 rows][64 k]. A panel likewise, as the
 * instruction wants it: [16 k][16 columns][4 k]. Both order the k, and a panel the columns, as it suits
 * their transposition: byte 16 u + 4 v + t of a row, so row 4 u + v of a panel, is k = 16 v + 4 u + t;
 * place 4 u + 2 h + e is column 8 h + 2 u + e.
 *
 * Eight registers hold four sums, a tile of A and three of B: byte i + 1 of A meets the bytes of B that
 * byte i met, one place on, so that a step of four products loads two tiles. The sums of the other four
 * weights wait in memory; DEPTH steps of both operands are used for all eight before they leave the
 * first-level cache, the second pass backwards.
 */

#include "square_avx512.inc.h"
#include "tiles.h"

enum { MM_STRIP = 16, MM_NR = 16, MM_ROWS = 16, MM_UNIT = 64, MM_TURNS = 0, MM_KC = 896, MM_MC = 192 };
enum { TILE_WORDS = 128, STEP_WORDS = 8 * TILE_WORDS, DEPTH = 4 };

_Static_assert(4ULL * 255 * 255 * MM_KC < 1ULL << 32, "a sum of four byte products may not wrap");

static inline size_t mm_strip_words(size_t k) {
    return (k + 63) / 64 * STEP_WORDS;
}

static inline size_t mm_panel_words(size_t k) {
    return mm_strip_words(k);
}

static inline size_t amx_less(size_t a, size_t b) {
    return a > b ? a - b : 0;
}

/* byte l of 64 words in bytes of out[l] */
static inline void amx_bytes(const u64 *words, __m512i out[8]) {
    const __m512i pairs = _mm512_broadcast_i32x4(
        _mm_set_epi8(15, 7, 14, 6, 13, 5, 12, 4, 11, 3, 10, 2, 9, 1, 8, 0));
    __m512i r[8], s[8], t[8];

    for (int i = 0; i < 8; i += 2) {
        __m512i x = _mm512_load_si512(words + 8 * i), y = _mm512_load_si512(words + 8 * i + 8);
        r[i] = _mm512_shuffle_epi8(_mm512_shuffle_i64x2(x, y, 0x88), pairs);
        r[i + 1] = _mm512_shuffle_epi8(_mm512_shuffle_i64x2(x, y, 0xdd), pairs);
    }
    for (int i = 0; i < 8; i += 2) {
        s[i] = _mm512_unpacklo_epi16(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi16(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            t[i + 2 * j] = _mm512_unpacklo_epi32(s[i + j], s[i + j + 2]);
            t[i + 2 * j + 1] = _mm512_unpackhi_epi32(s[i + j], s[i + j + 2]);
        }
    for (int i = 0; i < 4; i++) {
        out[2 * i] = _mm512_unpacklo_epi64(t[i], t[i + 4]);
        out[2 * i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 4]);
    }
}

/* byte l of four rows of 16 words, left[4] and right[4], in out[l]: [16 places][4 rows] */
static inline void amx_quads(const __m512i *left, const __m512i *right, __m512i out[8]) {
    __m512i low[4], high[4];

    for (int h = 0; h < 2; h++) {
        const __m512i *r = h ? right : left;
        __m512i a = _mm512_unpacklo_epi8(r[0], r[1]), b = _mm512_unpackhi_epi8(r[0], r[1]);
        __m512i c = _mm512_unpacklo_epi8(r[2], r[3]), d = _mm512_unpackhi_epi8(r[2], r[3]);
        low[2 * h] = _mm512_unpacklo_epi16(a, c), high[2 * h] = _mm512_unpackhi_epi16(a, c);
        low[2 * h + 1] = _mm512_unpacklo_epi16(b, d), high[2 * h + 1] = _mm512_unpackhi_epi16(b, d);
    }
    for (int i = 0; i < 2; i++, out += 4) {
        const __m512i *y = i ? high : low;
        __m512i a = _mm512_unpacklo_epi32(y[0], y[1]), b = _mm512_unpackhi_epi32(y[0], y[1]);
        __m512i c = _mm512_unpacklo_epi32(y[2], y[3]), d = _mm512_unpackhi_epi32(y[2], y[3]);
        out[0] = _mm512_unpacklo_epi64(a, c), out[1] = _mm512_unpackhi_epi64(a, c);
        out[2] = _mm512_unpacklo_epi64(b, d), out[3] = _mm512_unpackhi_epi64(b, d);
    }
}

static void mm_pack_strip(psm_view a, size_t rows, size_t k, u64 *out) {
    _Alignas(64) u64 words[16 * 64];
    __m512i r[8];

    for (size_t p = 0; p < k; p += 64, out += STEP_WORDS) {
        for (size_t i = 0; i < 16; i += 8)
            for (size_t q = 0; q < 64; q += 8) {
                psm_view at = {a.data + (ptrdiff_t)i * a.row + (ptrdiff_t)(p + q) * a.col, a.row, a.col};
                avx512_square(r, at, amx_less(rows, i), amx_less(k, p + q));
                for (size_t j = 0; j < 8; j++)
                    _mm512_store_si512(words + 64 * (i + j) + q, r[j]);
            }
        for (size_t i = 0; i < 16; i++) {
            amx_bytes(words + 64 * i, r);
            for (size_t l = 0; l < 8; l++)
                _mm512_store_si512(out + TILE_WORDS * l + 8 * i, r[l]);
        }
    }
}

static void mm_pack_panel(psm_view b, size_t k, size_t cols, u64 *out) {
    __m512i left[8], right[8], r[8];

    for (size_t p = 0; p < k; p += 64, out += STEP_WORDS)
        for (size_t q = 0; q < 16; q += 2) {
            psm_view at = {b.data + (ptrdiff_t)(p + 4 * q) * b.row, b.row, b.col};
            psm_view next = {at.data + 8 * b.col, b.row, b.col};
            avx512_square(left, at, amx_less(k, p + 4 * q), cols);
            avx512_square(right, next, amx_less(k, p + 4 * q), amx_less(cols, 8));
            for (size_t half = 0; half < 2; half++) {
                size_t row = (q + half) % 4 * 4 + (q + half) / 4;
                amx_quads(left + 4 * half, right + 4 * half, r);
                for (size_t l = 0; l < 8; l++)
                    _mm512_store_si512(out + TILE_WORDS * l + 8 * row, r[l]);
            }
        }
}

/* Registers: sums 0..3, A 4, B 5..7.  Byte i of A meets those of B in x, y, z and, loaded over x when
 * its last product is under way, byte j. */
#define AMX_STEP(i, j, x, y, z) \
    do { \
        TILE_LOAD(4, a + TILE_WORDS * (i)); \
        TILE_DOT(3, 4, x); \
        TILE_LOAD(x, b + TILE_WORDS * (j)); \
        TILE_DOT(2, 4, y); \
        TILE_DOT(1, 4, z); \
        TILE_DOT(0, 4, x); \
    } while (0)

/* the last bytes i, i + 1, i + 2 of A, which meet three, two and one of those of B in x, y, z */
#define AMX_LAST(i, x, y, z) \
    do { \
        TILE_LOAD(4, a + TILE_WORDS * (i)); \
        TILE_DOT(3, 4, x); \
        TILE_DOT(2, 4, y); \
        TILE_DOT(1, 4, z); \
        TILE_LOAD(4, a + TILE_WORDS * (i + 1)); \
        TILE_DOT(3, 4, y); \
        TILE_DOT(2, 4, z); \
        TILE_LOAD(4, a + TILE_WORDS * (i + 2)); \
        TILE_DOT(3, 4, z); \
    } while (0)

/* 64 k: sums 0..3 of the weights 4..7 */
static inline void amx_upper(const u64 *a, const u64 *b) {
    TILE_LOAD(5, b + TILE_WORDS * 7);
    TILE_LOAD(6, b + TILE_WORDS * 6);
    TILE_LOAD(7, b + TILE_WORDS * 5);
    AMX_STEP(0, 4, 5, 6, 7);
    AMX_STEP(1, 3, 6, 7, 5);
    AMX_STEP(2, 2, 7, 5, 6);
    AMX_STEP(3, 1, 5, 6, 7);
    AMX_STEP(4, 0, 6, 7, 5);
    AMX_LAST(5, 7, 5, 6);
}

/* of the weights 0..3 */
static inline void amx_lower(const u64 *a, const u64 *b) {
    TILE_LOAD(5, b + TILE_WORDS * 3);
    TILE_LOAD(6, b + TILE_WORDS * 2);
    TILE_LOAD(7, b + TILE_WORDS * 1);
    AMX_STEP(0, 0, 5, 6, 7);
    AMX_LAST(1, 6, 7, 5);
}

static inline void amx_load(const u64 *sums, int fresh) {
    if (fresh) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    } else {
        TILE_LOAD(0, sums);
        TILE_LOAD(1, sums + TILE_WORDS);
        TILE_LOAD(2, sums + TILE_WORDS * 2);
        TILE_LOAD(3, sums + TILE_WORDS * 3);
    }
}

static inline void amx_store(u64 *sums) {
    TILE_STORE(0, sums);
    TILE_STORE(1, sums + TILE_WORDS);
    TILE_STORE(2, sums + TILE_WORDS * 2);
    TILE_STORE(3, sums + TILE_WORDS * 3);
}

/* out[16][16] = the sums of the weights put together */
static inline void amx_combine(const u64 *sums, u64 *out) {
    const __m512i low = _mm512_set1_epi64(0xffffffff);

    for (size_t i = 0; i < 16; i++, sums += 8, out += 16) {
        __m512i even = _mm512_setzero_si512(), odd = even, upper = even;
        for (size_t w = 4; w-- > 0;) {
            __m512i x = _mm512_load_si512(sums + TILE_WORDS * w);
            even = _mm512_add_epi64(_mm512_slli_epi64(even, 8), _mm512_and_si512(x, low));
            odd = _mm512_add_epi64(_mm512_slli_epi64(odd, 8), _mm512_srli_epi64(x, 32));
            upper = _mm512_add_epi32(_mm512_slli_epi32(upper, 8),
                                     _mm512_load_si512(sums + TILE_WORDS * (w + 4)));
        }
        even = _mm512_add_epi64(even, _mm512_slli_epi64(upper, 32));
        odd = _mm512_add_epi64(odd, _mm512_andnot_si512(low, upper));
        _mm512_store_si512(out, _mm512_unpacklo_epi64(even, odd));
        _mm512_store_si512(out + 8, _mm512_unpackhi_epi64(even, odd));
    }
}

static void mm_tile(const u64 *strip, size_t row, size_t rows, const u64 *panel, size_t cols,
                    size_t k, u64 *out) {
    _Alignas(64) u64 sums[STEP_WORDS];
    size_t steps = (k + 63) / 64;

    (void)row, (void)rows, (void)cols;
    for (size_t first = 0; first < steps; first += DEPTH) {
        size_t end = steps - first < DEPTH ? steps : first + DEPTH;
        amx_load(sums + 4 * TILE_WORDS, first == 0);
        for (size_t s = first; s < end; s++)
            amx_upper(strip + s * STEP_WORDS, panel + s * STEP_WORDS);
        amx_store(sums + 4 * TILE_WORDS);
        amx_load(sums, first == 0);
        for (size_t s = end; s-- > first;)
            amx_lower(strip + s * STEP_WORDS, panel + s * STEP_WORDS);
        amx_store(sums);
    }
    amx_combine(sums, out);
}
