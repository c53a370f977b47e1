/* Bit matrices: 64 x 64 transposes, eight at a time, and packing.
 *
 * Layout.  A packed bit vector of n bits has ceil(n / 64) words, in tiles of
 * w = 8 words (the last tile: as many as are left).  Element e of a tile is bit
 * e / w of word e % w, so that a tile is a matrix of 64 rows of w words and one
 * transpose turns it into bit planes, without a shuffle between words.
 */

#include "unroll.h"

typedef u64 v8 __attribute__((vector_size(64)));

/* PSM_REGISTER words fill a register of the target.  Of vectors that are wider the compiler keeps
 * every one in memory, so that long circuits are written for these. */
typedef u64 vreg __attribute__((vector_size(8 * PSM_REGISTER)));
typedef int64_t vsigned __attribute__((vector_size(8 * PSM_REGISTER)));

#define PSM_LANES 8

static inline vreg psm_get(const u64 *p) {
    vreg v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void psm_put(u64 *p, vreg v) { memcpy(p, &v, sizeof v); }

static inline v8 psm_load(const u64 *p, size_t w) {
    v8 v = {0};
    if (w == PSM_LANES) memcpy(&v, p, sizeof v);
    else for (size_t i = 0; i < w; i++) v[i] = p[i];
    return v;
}

static inline void psm_store(u64 *p, const v8 *v, size_t w) {
    if (w == PSM_LANES) memcpy(p, v, sizeof *v);
    else for (size_t i = 0; i < w; i++) p[i] = (*v)[i];
}

/* The products of the lower halves, of the lower halves as signed numbers, and the sum of two products with signed
 * numbers of 32 bits mod 2^64; what vector units have instructions for and compilers do not find. */
static inline vreg psm_mul32(vreg x, vreg y) {
#if defined __AVX512F__
    return (vreg)_mm512_mul_epu32((__m512i)x, (__m512i)y);
#elif defined __AVX2__
    return (vreg)_mm256_mul_epu32((__m256i)x, (__m256i)y);
#else
    return (x & 0xFFFFFFFF) * (y & 0xFFFFFFFF);
#endif
}

static inline vreg psm_mul32_signed(vreg x, vreg y) {
#if defined __AVX512F__
    return (vreg)_mm512_mul_epi32((__m512i)x, (__m512i)y);
#elif defined __AVX2__
    return (vreg)_mm256_mul_epi32((__m256i)x, (__m256i)y);
#else
    return x * y; /* numbers of 32 bits fill their words */
#endif
}

static inline vreg psm_mul_shorts(vreg x, vreg factor, vreg y, vreg other) {
#if defined __AVX2__ && !defined __AVX512DQ__
    /* what is left of x and y less their lower halves as signed numbers */
    vreg upper = psm_mul32(factor, (x + 0x80000000) >> 32) + psm_mul32(other, (y + 0x80000000) >> 32);
    return psm_mul32_signed(factor, x) + psm_mul32_signed(other, y) + (upper << 32);
#else
    return x * factor + y * other;
#endif
}

/* The upper halves of the products of lower halves. */
static inline vreg psm_mul32_upper(vreg x, vreg y) { return psm_mul32(x, y) >> 32; }

/* All ones in words whose most significant bit is set, and in the others. */
static inline vreg psm_tops(vreg x) {
#if defined __AVX512F__
    return (vreg)((vsigned)x >> 63);
#elif defined __AVX2__
    return (vreg)((vsigned){0} > (vsigned)x);
#else
    return 0 - (x >> 63);
#endif
}

static inline vreg psm_not_tops(vreg x) {
#if defined __AVX2__ && !defined __AVX512F__
    return (vreg)((vsigned)x > (vsigned){0} - 1);
#else
    return ~psm_tops(x);
#endif
}

/* Words of the tile that begins at word `at` of `words`. */
static inline size_t psm_width(size_t at, size_t words) {
    return words - at < PSM_LANES ? words - at : PSM_LANES;
}

/* The rows of a tile, eight words a row: where they lie, or spread out in `space`, with zeros behind w
 * of them; p may be `space`. */
static inline const u64 *psm_spread(const u64 *p, size_t rows, size_t w, u64 *space) {
    if (w == PSM_LANES) return p;
    for (size_t i = rows; i-- > 0;) {
        memmove(space + i * PSM_LANES, p + i * w, w * sizeof(u64));
        memset(space + i * PSM_LANES + w, 0, (PSM_LANES - w) * sizeof(u64));
    }
    return space;
}

/* Where rows of eight words are to be written that have w: in their place, or in `space`. */
static inline u64 *psm_spread_out(u64 *out, size_t w, u64 *space) { return w == PSM_LANES ? out : space; }

/* From there to their place. */
static inline void psm_close(const u64 *from, size_t rows, size_t w, u64 *out) {
    if (w == PSM_LANES) return;
    for (size_t i = 0; i < rows; i++) memcpy(out + i * w, from + i * PSM_LANES, w * sizeof(u64));
}

/* bits 2^j apart of x and y change places: those of x that are not in `mask`, and of y that are */
static inline __attribute__((always_inline)) void psm_exchange(vreg *x, vreg *y, int j, u64 mask) {
    vreg t = ((*x >> j) ^ *y) & mask;
    *x ^= t << j;
    *y ^= t;
}

/* Three of the six steps of a transpose, for eight rows `step` apart, in registers: 4, 2 and 1 steps. */
static inline __attribute__((always_inline)) void psm_transpose_rows(u64 *rows, int step, const u64 masks[3]) {
    vreg x[8];
    PSM_UNROLL for (int i = 0; i < 8; i++) x[i] = psm_get(rows + PSM_LANES * step * i);
    PSM_UNROLL for (int i = 0; i < 4; i++) psm_exchange(x + i, x + i + 4, 4 * step, masks[0]);
    PSM_UNROLL for (int i = 0; i < 8; i += i % 4 == 1 ? 3 : 1) psm_exchange(x + i, x + i + 2, 2 * step, masks[1]);
    PSM_UNROLL for (int i = 0; i < 8; i += 2) psm_exchange(x + i, x + i + 1, step, masks[2]);
    PSM_UNROLL for (int i = 0; i < 8; i++) psm_put(rows + PSM_LANES * step * i, x[i]);
}

/* planes [64][8] = the bits of the m elements at x, each less `offset`: a tile of w words; zeros, less `offset`, stand
 * for those behind it */
static void psm_planes(const u64 *x, size_t m, size_t w, u64 offset, u64 *planes) {
    static const u64 far[3] = {0x00000000FFFFFFFF, 0x0000FFFF0000FFFF, 0x00FF00FF00FF00FF};
    static const u64 near[3] = {0x0F0F0F0F0F0F0F0F, 0x3333333333333333, 0x5555555555555555};
    if (m == 64 * PSM_LANES)
        for (size_t i = 0; i < m; i++) planes[i] = x[i] - offset;
    else {
        for (size_t i = 0; i < 64 * PSM_LANES; i++) planes[i] = 0 - offset;
        for (size_t i = 0; i < m; i++) planes[i / w * PSM_LANES + i % w] = x[i] - offset;
    }
    for (size_t at = 0; at < PSM_LANES; at += PSM_REGISTER) {
        for (int i = 0; i < 8; i++) psm_transpose_rows(planes + at + PSM_LANES * i, 8, far);
        for (int i = 0; i < 8; i++) psm_transpose_rows(planes + at + 8 * PSM_LANES * i, 1, near);
    }
}

/* out = bit 0 of every element, packed */
static void psm_pack_bits(const u64 *x, u64 *out, size_t n) {
    size_t words = (n + 63) / 64;
    for (size_t at = 0; at < words; at += PSM_LANES) {
        size_t w = psm_width(at, words), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        if (m == 64 * PSM_LANES) {
            v8 bits = {0};
            for (size_t row = 0; row < 64; row++) bits |= (psm_load(x + at * 64 + row * 8, 8) & 1) << row;
            psm_store(out + at, &bits, w);
            continue;
        }
        memset(out + at, 0, w * sizeof(u64));
        for (size_t e = 0; e < m; e++) out[at + e % w] |= (x[at * 64 + e] & 1) << (e / w);
    }
}

/* out[e] = 0 or all ones for m elements of a tile of w words */
static void psm_tile_masks(const u64 *packed, size_t m, size_t w, u64 *out) {
    if (w == PSM_LANES)
        for (size_t row = 0; row < m / PSM_LANES; row++)
            for (size_t i = 0; i < PSM_LANES; i++)
                out[row * PSM_LANES + i] = 0 - ((packed[i] >> row) & 1);
    for (size_t e = w == PSM_LANES ? m / PSM_LANES * PSM_LANES : 0; e < m; e++)
        out[e] = 0 - ((packed[e % w] >> (e / w)) & 1);
}

/* out[i] = packed bit i, as 0 or 1 */
static void psm_unpack_bits(const u64 *packed, u64 *out, size_t n) {
    size_t words = (n + 63) / 64;
    for (size_t at = 0; at < words; at += PSM_LANES) {
        size_t w = psm_width(at, words), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        psm_tile_masks(packed + at, m, w, out + at * 64);
        for (size_t e = 0; e < m; e++) out[at * 64 + e] &= 1;
    }
}

/* planes[(tile, bit)][w] of n words: bit planes in tile order */
static void psm_decompose(const u64 *x, u64 *planes, size_t n) {
    size_t words = (n + 63) / 64;
    u64 space[64 * PSM_LANES];
    for (size_t at = 0; at < words; at += PSM_LANES) {
        size_t w = psm_width(at, words), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        u64 *out = psm_spread_out(planes + at * 64, w, space);
        psm_planes(x + at * 64, m, w, 0, out);
        psm_close(out, 64, w, planes + at * 64);
    }
}
