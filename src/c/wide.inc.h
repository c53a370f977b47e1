/* Numbers mod 2^128, with which shares carry message authentication codes.
 *
 * Tight: two planes of n words, the lower halves and the upper ones.  Loose: four planes
 * of signed words of weights 1, 2^32, 2^64 and 2^96, so that sums of loose numbers are
 * sums of planes, for as long as no word overflows; written with planes below 2^32.
 */
enum { WIDE_BLOCK = 128, WIDE_LEAVES = 32 };

static inline u128 psm_wide_loose(const u64 *x, size_t n, size_t i) {
    return (u128)(__int128)(int64_t)x[i] + ((u128)(__int128)(int64_t)x[n + i] << 32) +
           ((u128)x[2 * n + i] << 64) + ((u128)x[3 * n + i] << 96);
}

static inline u128 psm_wide_tight(const u64 *x, size_t n, size_t i) { return x[i] | (u128)x[n + i] << 64; }

static inline void psm_wide_store(u128 value, u64 *out, size_t n, size_t i) {
    for (size_t j = 0; j < 4; j++) out[j * n + i] = (uint32_t)(value >> (32 * j));
}

/* out (tight) = x (loose) + or - m (tight), unless NULL */
static void psm_wide_pack(const u64 *x, const u64 *m, int subtract, u64 *out, size_t n, size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
        u128 value = psm_wide_loose(x, n, i), other = m ? psm_wide_tight(m, n, i) : 0;
        value = subtract ? value - other : value + other;
        out[i] = (u64)value, out[n + i] = (u64)(value >> 64);
    }
}

/* out (loose) = z (tight) + x (loose) * d + a (tight) * e; z, x and a may be NULL */
static void psm_wide_combine(const u64 *z, const u64 *x, const u64 *d, const u64 *a, const u64 *e, u64 *out, size_t n,
                             size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
        u128 value = z ? psm_wide_tight(z, n, i) : 0;
        if (x) value += psm_wide_loose(x, n, i) * d[i];
        if (a) value += psm_wide_tight(a, n, i) * e[i];
        psm_wide_store(value, out, n, i);
    }
}

/* out (loose) = factor * v, and with dealt [2][2 n], which has q and then j in every plane:
 * less q, and plus j where c < 2^63 */
static void psm_wide_affine(const u64 *v, u64 factor, const u64 *dealt, const u64 *c, u64 *out, size_t n, size_t begin,
                            size_t end) {
    for (size_t i = begin; i < end; i++) {
        u128 value = (u128)factor * v[i];
        if (dealt) {
            u64 below = (c[i] >> 63) - 1;
            value -= psm_wide_tight(dealt, 2 * n, i);
            value += psm_wide_tight(dealt, 2 * n, n + i) & ((u128)below << 64 | below);
        }
        psm_wide_store(value, out, n, i);
    }
}

/* out (tight) = factor * v plus or minus the numbers of all keys at word `first` of the
 * stream; v is tight, of words alone (`upper` = 0), or NULL */
static void psm_wide_deal(const psm_aes_key *keys, size_t holders, u64 stream, u64 first, const u64 *v, int upper,
                          u64 low, u64 high, int subtract, u64 *out, size_t n, size_t begin, size_t end) {
    u128 factor = low | (u128)high << 64, sum[WIDE_BLOCK];
    u64 part[2][WIDE_BLOCK];
    for (size_t at = begin; at < end; at += WIDE_BLOCK) {
        size_t m = end - at < WIDE_BLOCK ? end - at : WIDE_BLOCK;
        for (size_t i = 0; i < m; i++) sum[i] = 0;
        for (size_t h = 0; h < holders; h++) {
            psm_prg_fill(&keys[h], stream, first + at, part[0], m);
            psm_prg_fill(&keys[h], stream, first + n + at, part[1], m);
            for (size_t i = 0; i < m; i++) sum[i] += part[0][i] | (u128)part[1][i] << 64;
        }
        for (size_t i = 0; i < m; i++) {
            u128 value = v ? factor * (upper ? psm_wide_tight(v, n, at + i) : v[at + i]) : 0;
            value = subtract ? value - sum[i] : value + sum[i];
            out[at + i] = (u64)value, out[n + at + i] = (u64)(value >> 64);
        }
    }
}

/* --- bits as the lowest of numbers mod 2^64 ------------------------------------------------
 *
 * The tree of a comparison (pysmpc/mpc/mac/comparison_mac.py).  What is dealt for it is drawn where it is
 * used and kept nowhere: shares from one stream, codes from the next one.
 */
enum { WIDE_BITS = 3 * WIDE_LEAVES + 1, WIDE_TILE = 512 };

/* the pairs of bits of a word in the order of their reversed numbers, so that neighbours stand half of all apart */
static inline unsigned psm_wide_pair(unsigned p) { return (p & 1) << 4 | (p & 2) << 2 | (p & 4) | (p & 8) >> 2 | p >> 4; }

/* Dealer: value [m] in 0 and 1 as the last holder's shares of words `at` of the stream, and alpha times it */
static inline void psm_wide_deal_bits(const psm_aes_key *keys, size_t holders, u64 stream, u64 alpha, size_t at,
                                      u64 *value, u64 *code, size_t m) {
    for (size_t i = 0; i < m; i++) code[i] = -value[i] & alpha;
    psm_streams_take(keys, holders, stream, at, value, m);
    psm_streams_take(keys, holders, stream + 1, at, code, m);
}

/* Dealer: of r, the total of the stream `mask`, for every pair of bits of 2 r the higher one, the lower one and the
 * product, and bit 63 of r: out [2][97 n], shares and codes */
static void psm_wide_leaves_deal(const psm_aes_key *keys, size_t holders, u64 mask, u64 stream, u64 alpha, u64 *out,
                                 size_t n, size_t begin, size_t end) {
    u64 r[WIDE_TILE];
    for (size_t at = begin; at < end; at += WIDE_TILE) {
        size_t m = end - at < WIDE_TILE ? end - at : WIDE_TILE;
        psm_streams_sum(keys, holders, mask, at, r, m);
        for (unsigned p = 0; p < WIDE_BITS; p++) {
            unsigned pair = 2 * psm_wide_pair(p % WIDE_LEAVES), what = p / WIDE_LEAVES;
            size_t place = p * n + at;
            u64 *value = out + place;
            for (size_t i = 0; i < m; i++) {
                u64 high = r[i] >> pair & 1, low = r[i] << 1 >> pair & 1;
                value[i] = what == 0 ? high : what == 1 ? low : what == 2 ? high & low : r[i] >> 63;
            }
            psm_wide_deal_bits(keys, holders, stream, alpha, place, value, value + WIDE_BITS * n, m);
        }
    }
}

/* Is 2 c < 2 r?  A holder's shares, or codes, from those that are dealt above [97 n]: `out` [2][32 n]: less and equal
 * of every pair; top [n]: bit 63 of r.  c is public; factor: of public ones. */
static void psm_wide_leaves(const psm_aes_key *key, u64 stream, const u64 *corrections, const u64 *c, u64 factor,
                            u64 *out, u64 *top, size_t n, size_t begin, size_t end) {
    u64 space[3][WIDE_TILE];
    for (size_t at = begin; at < end; at += WIDE_TILE) {
        size_t m = end - at < WIDE_TILE ? end - at : WIDE_TILE;
        for (unsigned p = 0; p < WIDE_LEAVES; p++) {
            unsigned pair = 2 * psm_wide_pair(p);
            const u64 *dealt[3];
            for (size_t j = 0; j < 3; j++)
                dealt[j] = psm_dealt(key, stream, (p + j * WIDE_LEAVES) * n + at, m, corrections, space[j]);
            const u64 *high = dealt[0], *low = dealt[1], *both = dealt[2];
            u64 *less = out + p * n + at, *equal = less + WIDE_LEAVES * n;
            for (size_t i = 0; i < m; i++) {
                /* all ones where a bit is 0 */
                u64 first = (c[at + i] >> pair & 1) - 1, second = (c[at + i] << 1 >> pair & 1) - 1;
                less[i] = (first & high[i]) + (first & second & low[i]) + (second & both[i]);
                equal[i] = (first & second & factor) + (first & low[i]) + (second & high[i]) + both[i];
            }
        }
        const u64 *last = psm_dealt(key, stream, 3 * WIDE_LEAVES * n + at, m, corrections, space[0]);
        memcpy(top + at, last, m * sizeof(u64));
    }
}

/* Dealer, for a join of n: with a, b, c the thirds of the total of the stream `masks`, out [7 n]: the codes [3 n] of
 * those, of the stream behind it, and [2][2 n] shares and codes of the lowest bits of a b and a c, of `stream` */
static void psm_wide_join_deal(const psm_aes_key *keys, size_t holders, u64 masks, u64 stream, u64 alpha, u64 *out,
                               size_t n, size_t begin, size_t end) {
    u64 words[3][WIDE_TILE];
    for (size_t at = begin; at < end; at += WIDE_TILE) {
        size_t m = end - at < WIDE_TILE ? end - at : WIDE_TILE;
        for (size_t j = 0; j < 3; j++) {
            u64 *code = out + j * n + at;
            psm_streams_sum(keys, holders, masks, j * n + at, words[j], m);
            for (size_t i = 0; i < m; i++) code[i] = alpha * words[j][i];
            psm_streams_take(keys, holders, masks + 1, j * n + at, code, m);
        }
        for (size_t j = 0; j < 2; j++) {
            u64 *value = out + (3 + j) * n + at;
            for (size_t i = 0; i < m; i++) value[i] = words[0][i] & words[1 + j][i] & 1;
            psm_wide_deal_bits(keys, holders, stream, alpha, j * n + at, value, value + 2 * n, m);
        }
    }
}

/* equal_1, less_0 and equal_0 of x [less_0, less_1, equal_0, equal_1], less m words of masks of all 3 n */
static inline void psm_wide_less(const u64 *x, const u64 *mask, size_t n, size_t at, u64 *out, size_t m) {
    static const size_t factors[3] = {3, 0, 2};
    for (size_t i = 0; i < m;) {
        size_t third = (at + i) / n, place = (at + i) % n, run = n - place < m - i ? n - place : m - i;
        const u64 *from = x + factors[third] * n + place;
        for (size_t j = 0; j < run; j++) out[i + j] = from[j] - mask[i + j];
        i += run;
    }
}

/* Of shares x [4 n] and codes y [4 n] the factors of a join less their masks, those of [begin, end) of 3 n, which are
 * whole tiles: the lowest bits of shares in `packed` and the others in `rest`, and their codes in `code` */
static void psm_wide_factors(const psm_aes_key *key, u64 masks, const u64 *corrections, const u64 *x, const u64 *y,
                             u64 *packed, u64 *rest, u64 *code, size_t n, size_t begin, size_t end) {
    u64 space[WIDE_TILE];
    for (size_t at = begin; at < end; at += WIDE_TILE) {
        size_t m = end - at < WIDE_TILE ? end - at : WIDE_TILE;
        u64 *words = rest + at;
        psm_prg_fill(key, masks, at, space, m);
        psm_wide_less(x, space, n, at, words, m);
        psm_pack_bits(words, packed + at / 64, m);
        for (size_t i = 0; i < m; i++) words[i] = (u64)((int64_t)words[i] >> 1);
        psm_wide_less(y, psm_dealt(key, masks + 1, at, m, corrections, space), n, at, code + at, m);
    }
}

/* Joins neighbours: x [less_0, less_1, equal_0, equal_1] of n each, opened [d, e, f] of equal_1, less_0 and equal_0
 * under masks a, b, c, of which a is drawn, and the products [a b, a c]; out [less, equal] */
static void psm_wide_join(const psm_aes_key *key, u64 masks, const u64 *mask_corrections, u64 stream,
                          const u64 *corrections, const u64 *x, const u64 *opened, u64 *out, size_t n, size_t begin,
                          size_t end) {
    u64 space[3][WIDE_TILE];
    for (size_t at = begin; at < end; at += WIDE_TILE) {
        size_t m = end - at < WIDE_TILE ? end - at : WIDE_TILE;
        const u64 *a = psm_dealt(key, masks, at, m, mask_corrections, space[0]);
        const u64 *ab = psm_dealt(key, stream, at, m, corrections, space[1]);
        const u64 *ac = psm_dealt(key, stream, n + at, m, corrections, space[2]);
        const u64 *less = x + at, *equal = less + 2 * n, *bits = opened + at;
        for (size_t i = 0; i < m; i++) {
            u64 d = -(bits[i] & 1), e = -(bits[n + i] & 1), f = -(bits[2 * n + i] & 1);
            out[at + i] = less[n + i] + (d & less[i]) + (e & a[i]) + ab[i];
            out[n + at + i] = (d & equal[i]) + (f & a[i]) + ac[i];
        }
    }
}

/* out [n] = the sum of bit i of each row of packed bits */
static void psm_wide_count(const u64 *packed, size_t rows, u64 *out, size_t n, size_t begin, size_t end) {
    size_t words = (n + 63) / 64;
    u64 bits[WIDE_TILE];
    for (size_t at = begin; at < end; at += WIDE_TILE) {
        size_t m = end - at < WIDE_TILE ? end - at : WIDE_TILE, w = psm_width(at / 64, words);
        for (size_t i = 0; i < m; i++) out[at + i] = 0;
        for (size_t row = 0; row < rows; row++) {
            psm_tile_masks(packed + row * words + at / 64, m, w, bits);
            for (size_t i = 0; i < m; i++) out[at + i] -= bits[i];
        }
    }
}
