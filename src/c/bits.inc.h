/* Bit matrices: 64 x 64 transposes, eight at a time, and packing.
 *
 * Layout.  A packed bit vector of n bits has ceil(n / 64) words, in tiles of
 * w = 8 words (the last tile: as many as are left).  Element e of a tile is bit
 * e / w of word e % w, so that a tile is a matrix of 64 rows of w words and one
 * transpose turns it into bit planes, without a shuffle between words.
 */

typedef u64 v8 __attribute__((vector_size(64)));

#define PSM_LANES 8

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

/* The products of the lower halves; what vector units have an instruction for and compilers do not find. */
static inline v8 psm_mul32(v8 x, v8 y) {
#if defined __AVX512F__
    return (v8)_mm512_mul_epu32((__m512i)x, (__m512i)y);
#elif defined __AVX2__
    __m256i a[2], b[2];
    memcpy(a, &x, sizeof x), memcpy(b, &y, sizeof y);
    for (int i = 0; i < 2; i++) a[i] = _mm256_mul_epu32(a[i], b[i]);
    memcpy(&x, a, sizeof x);
    return x;
#else
    return (x & 0xFFFFFFFF) * (y & 0xFFFFFFFF);
#endif
}

/* The upper halves of those products. */
static inline v8 psm_mul32_upper(v8 x, v8 y) { return psm_mul32(x, y) >> 32; }

/* Words of the tile that begins at word `at` of `words`. */
static inline size_t psm_width(size_t at, size_t words) {
    return words - at < PSM_LANES ? words - at : PSM_LANES;
}

/* x[i] bit j <-> x[j] bit i, in each of the eight lanes */
static void psm_transpose(v8 x[64]) {
    u64 mask = 0x00000000FFFFFFFFull;
    for (int j = 32; j; j >>= 1, mask ^= mask << j)
        for (int k = 0; k < 64; k = ((k | j) + 1) & ~j) {
            v8 t = ((x[k] >> j) ^ x[k | j]) & mask;
            x[k] ^= t << j;
            x[k | j] ^= t;
        }
}

/* Rows of one tile of `m` elements, zeros behind them. */
static void psm_rows_load(const u64 *x, size_t m, size_t w, v8 rows[64]) {
    size_t full = m / w;
    for (size_t i = 0; i < full; i++) rows[i] = psm_load(x + i * w, w);
    for (size_t i = full; i < 64; i++) rows[i] = (v8){0};
    for (size_t i = full * w; i < m; i++) rows[full][i % w] = x[i];
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
    for (size_t at = 0; at < words; at += PSM_LANES) {
        v8 rows[64];
        size_t w = psm_width(at, words), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        psm_rows_load(x + at * 64, m, w, rows);
        psm_transpose(rows);
        for (size_t bit = 0; bit < 64; bit++) psm_store(planes + at * 64 + bit * w, &rows[bit], w);
    }
}
