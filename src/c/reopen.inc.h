/* Division by 2^p, 1 <= p <= 16, of what may be opened a second time, as a factor of matrix products, by p bits in place
 * of 64 (pysmpc/mpc/additive/reopening.py has the derivation).
 *
 * Under r = -b 2^p + l mod 2^64, for the mask b of the second opening (stream base) and a dealt l below 2^p
 * (base + 1), c = z + offset + r is opened as in truncate.inc.h.  With floor(r / 2^p) = -b - 2^(64 - p) t, for the
 * upper p bits t of -b mod 2^64, and the most significant bit h of r, the quotient is
 *     v = C + b + 2^(64 - p) w,  C = floor(c / 2^p) - offset / 2^p,  w = t + [c < 2^63] h.
 * t and h are dealt mod 2^p, in the upper bits of lanes of 16 bits, four in a word (base + 2 and base + 3); so
 * 2^(64 - p) w is 2^48 times a lane, whatever p is.  To open w mod 2^p opens v - b.
 */

typedef uint16_t __attribute__((may_alias)) psm_lane; /* of a word */

static inline size_t psm_lane_words(size_t n) { return (n + 3) / 4; }

/* out[i] = x[i] + y[i], four lanes of 16 bits each; out may equal an input */
static void psm_add_lanes(const u64 *x, const u64 *y, u64 *out, size_t n) {
    const u64 top = 0x8000800080008000u;
    for (size_t i = 0; i < n; i++) out[i] = ((x[i] & ~top) + (y[i] & ~top)) ^ ((x[i] ^ y[i]) & top);
}

/* lanes -= those that all holders but the last draw */
static void psm_lanes_take(const psm_aes_key *keys, size_t holders, u64 stream, size_t at, psm_lane *lanes, size_t m) {
    u64 drawn[PSM_TILE / 4];
    const psm_lane *other = (const psm_lane *)drawn;
    for (size_t p = 0; p + 1 < holders; p++) {
        psm_prg_fill(&keys[p], stream, at / 4, drawn, psm_lane_words(m));
        for (size_t i = 0; i < m; i++) lanes[i] = (psm_lane)(lanes[i] - other[i]);
    }
}

/* corrections: n words of l, then the lanes of t and those of h.  `begin` is a multiple of PSM_TILE. */
static void psm_reopen_deal(const psm_aes_key *keys, size_t holders, u64 base, unsigned power, size_t begin, size_t end,
                            u64 *corrections, size_t n) {
    u64 b[PSM_TILE];
    for (size_t at = begin; at < end; at += PSM_TILE) {
        size_t m = end - at < PSM_TILE ? end - at : PSM_TILE;
        u64 *l = corrections + at, *t = corrections + n + at / 4, *h = t + psm_lane_words(n);
        psm_streams_sum(keys, holders, base, at, b, m);
        psm_streams_sum(keys, holders, base + 1, at, l, m);
        for (size_t i = 0; i < m; i++) l[i] &= ((u64)1 << power) - 1;
        psm_streams_take(keys, holders, base + 1, at, l, m);
        t[psm_lane_words(m) - 1] = h[psm_lane_words(m) - 1] = 0;
        for (size_t i = 0; i < m; i++) {
            u64 less = 0 - b[i];
            ((psm_lane *)t)[i] = (psm_lane)(less >> (64 - power) << (16 - power));
            ((psm_lane *)h)[i] = (psm_lane)((less >> (63 - power) & 1) << (16 - power));
        }
        psm_lanes_take(keys, holders, base + 2, at, (psm_lane *)t, m);
        psm_lanes_take(keys, holders, base + 3, at, (psm_lane *)h, m);
    }
}

/* out = z + r (+ offset for the leading party): the first message of one party */
static void psm_reopen_mask(const psm_aes_key *key, u64 base, unsigned power, u64 offset, const u64 *z,
                            const u64 *corrections, u64 *out, size_t begin, size_t end) {
    u64 b[PSM_TILE], space[PSM_TILE];
    for (size_t at = begin; at < end; at += PSM_TILE) {
        size_t m = end - at < PSM_TILE ? end - at : PSM_TILE;
        const u64 *l = psm_dealt(key, base + 1, at, m, corrections, space);
        psm_prg_fill(key, base, at, b, m);
        for (size_t i = 0; i < m; i++) out[at + i] = z[at + i] + l[i] + offset - (b[i] << power);
    }
}

/* One party's share of the quotient; corrections: the last holder's, of n elements. */
static void psm_reopen_finish(const psm_aes_key *key, u64 base, psm_divisor d, int lead, const u64 *c,
                              const u64 *corrections, u64 *out, size_t begin, size_t end, size_t n) {
    u64 space[2][PSM_TILE / 4], public[PSM_TILE];
    for (size_t at = begin; at < end; at += PSM_TILE) {
        size_t m = end - at < PSM_TILE ? end - at : PSM_TILE, words = psm_lane_words(m);
        const u64 *t = psm_dealt(key, base + 2, at / 4, words, corrections ? corrections + n : NULL, space[0]);
        const u64 *h = psm_dealt(key, base + 3, at / 4, words,
                                 corrections ? corrections + n + psm_lane_words(n) : NULL, space[1]);
        const psm_lane *one = (const psm_lane *)t, *two = (const psm_lane *)h;
        psm_prg_fill(key, base, at, out + at, m);
        for (size_t i = 0; i < m; i++)
            out[at + i] += (one[i] + (two[i] & ((c[at + i] >> 63) - 1))) << 48;
        if (lead) {
            psm_public_quotients(d, c + at, public, m);
            for (size_t i = 0; i < m; i++) out[at + i] += public[i];
        }
    }
}

/* out = one party's lanes of w, of its share v of the quotient: the second message */
static void psm_reopen_message(const psm_aes_key *key, u64 base, psm_divisor d, int lead, const u64 *c, const u64 *v,
                               u64 *out, size_t begin, size_t end) {
    u64 rest[PSM_TILE], public[PSM_TILE];
    for (size_t at = begin; at < end; at += PSM_TILE) {
        size_t m = end - at < PSM_TILE ? end - at : PSM_TILE;
        psm_prg_sub(key, base, at, v + at, rest, m);
        if (lead) {
            psm_public_quotients(d, c + at, public, m);
            for (size_t i = 0; i < m; i++) rest[i] -= public[i];
        }
        u64 *to = out + at / 4;
        to[psm_lane_words(m) - 1] = 0;
        for (size_t i = 0; i < m; i++) ((psm_lane *)to)[i] = (psm_lane)(rest[i] >> 48);
    }
}

/* out = v - b, of the sums of the lanes */
static void psm_reopen_opened(psm_divisor d, const u64 *c, const u64 *lanes, u64 *out, size_t begin, size_t end) {
    const psm_lane *w = (const psm_lane *)lanes;
    psm_public_quotients(d, c + begin, out + begin, end - begin);
    for (size_t i = begin; i < end; i++) out[i] += (u64)w[i] << 48;
}
