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

/* --- bits as the lowest of numbers mod 2^64 ------------------------------------------------ */

/* Is 2 c < 2 r?  Pairs of bits of both, in the order of their reversed numbers, so that
 * neighbours stand half of all apart.  c is public; dealt [97 n]: the higher bit of every pair
 * of r, the lower, the product of both, and what is not used here.  out [2][32 n]: less and
 * equal; factor: of public ones. */
static void psm_wide_leaves(const u64 *c, const u64 *dealt, u64 factor, u64 *out, size_t n, size_t begin, size_t end) {
    for (unsigned p = 0; p < WIDE_LEAVES; p++) {
        unsigned at = (p & 1) << 4 | (p & 2) << 2 | (p & 4) | (p & 8) >> 2 | p >> 4;
        const u64 *high = dealt + p * n, *low = high + WIDE_LEAVES * n, *both = low + WIDE_LEAVES * n;
        u64 *less = out + p * n, *equal = less + WIDE_LEAVES * n;
        for (size_t i = begin; i < end; i++) {
            u64 first = (c[i] >> 2 * at & 1) - 1, second = (c[i] << 1 >> 2 * at & 1) - 1; /* all ones where 0 */
            less[i] = (first & high[i]) + (first & second & low[i]) + (second & both[i]);
            equal[i] = (first & second & factor) + (first & low[i]) + (second & high[i]) + both[i];
        }
    }
}

/* Joins neighbours: x [less_0, less_1, equal_0, equal_1] of n each, masks [a, b, c] of equal_1,
 * less_0 and equal_0, opened [d, e, f] in 0 and 1, dealt [a b, a c]; out [less, equal] */
static void psm_wide_join(const u64 *x, const u64 *masks, const u64 *opened, const u64 *dealt, u64 *out, size_t n,
                          size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
        u64 d = -opened[i], e = -opened[n + i], f = -opened[2 * n + i];
        out[i] = x[n + i] + (d & x[i]) + (e & masks[i]) + dealt[i];
        out[n + i] = (d & x[2 * n + i]) + (f & masks[i]) + dealt[n + i];
    }
}
