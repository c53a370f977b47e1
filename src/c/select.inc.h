/* Bits in both worlds, and the product of a bit with a (truncated) value.
 *
 * A shared bit b is public beta = b ^ rho together with arithmetic shares of the
 * dealt bit rho, so  b = beta + (1 - 2 beta) rho  is linear.  With the opened
 * c = z + offset + r of truncate.inc.h, and shares of rho, quotient, jump and of
 * rho * quotient, rho * jump, the product b * floor(z / d) is linear too:
 *     t = K - quotient + [c < 2^63] jump          with K = floor(c / d) - offset / d
 *     b t = beta t + (1 - 2 beta) (K rho - rho quotient + [c < 2^63] rho jump).
 * Without truncation t = c - r, and one product, rho * r, is dealt.
 * rho itself is the xor of the holders' streams `rho`: the dealer can draw it
 * again for a later product with the same bit (the backward pass of a ReLU).
 *
 * Streams from `base`: r, [rho r] without truncation;
 * r, quotient, jump, rho quotient, rho jump with it.
 */

/* all ones where the dealt bit rho is set, for one tile */
static inline void rho_masks(const psm_aes_key *keys, size_t holders, u64 rho, size_t at, size_t m,
                             size_t w, u64 *out) {
    u64 packed[PSM_LANES] = {0};
    for (size_t h = 0; h < holders; h++) psm_prg_xor(&keys[h], rho, at, packed, packed, w);
    psm_tile_masks(packed, m, w, out);
}

/* corrections[i] of shares of the bit rho, on stream `stream` */
static void psm_bit_deal(const psm_aes_key *keys, size_t holders, u64 rho, u64 stream, size_t n,
                         size_t begin, size_t end, u64 *corrections) {
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        u64 *out = corrections + at * 64;
        rho_masks(keys, holders, rho, at, m, w, out);
        for (size_t i = 0; i < m; i++) out[i] &= 1;
        psm_streams_take(keys, holders, stream, at * 64, out, m);
    }
}

/* out = one party's arithmetic share of the bit */
static void psm_bit_share(const u64 *beta, const u64 *rho, int lead, u64 *out, size_t n) {
    u64 mask[PSM_TILE];
    size_t words = (n + 63) / 64;
    for (size_t at = 0; at < words; at += PSM_LANES) {
        size_t w = psm_width(at, words), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        psm_tile_masks(beta + at, m, w, mask);
        for (size_t i = 0; i < m; i++)
            out[at * 64 + i] = (rho[at * 64 + i] ^ mask[i]) - mask[i] + (lead ? mask[i] & 1 : 0);
    }
}

/* corrections: rows of n words, in the order of the streams behind r */
static void psm_select_deal(const psm_aes_key *keys, size_t holders, u64 base, u64 rho,
                            const psm_divisor *d, size_t n, size_t begin, size_t end,
                            u64 *corrections) {
    u64 r[PSM_TILE], mask[PSM_TILE];
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        size_t first = at * 64, rows = d ? 4 : 1;
        u64 *row[4];
        for (size_t j = 0; j < rows; j++) row[j] = corrections + j * n + first;
        rho_masks(keys, holders, rho, at, m, w, mask);
        psm_streams_sum(keys, holders, base, first, r, m);
        if (d) {
            psm_quotients(*d, r, row[0], row[1], m);
            for (size_t i = 0; i < m; i++) row[2][i] = row[0][i] & mask[i];
            for (size_t i = 0; i < m; i++) row[3][i] = row[1][i] & mask[i];
        } else {
            for (size_t i = 0; i < m; i++) row[0][i] = r[i] & mask[i];
        }
        for (size_t j = 0; j < rows; j++)
            psm_streams_take(keys, holders, base + 1 + j, first, row[j], m);
    }
}

/* The product of a bit, whose beta is `set` in all bits or in none, with t, where s is that of rho with t. */
static inline u64 selected(u64 set, u64 t, u64 s) { return (t & set) + ((s ^ set) - set); }

/* out = one party's shares of b * z: r, and its shares `product` of rho * r.  mine: all bits for the party that adds
 * what is public; turned: all bits for not b, of which b has words of all bits or none */
static inline void select_values(const u64 *c, const u64 *r, const u64 *product, const u64 *b, const u64 *rho, u64 mine,
                                 u64 turned, u64 *restrict out, size_t m) {
    for (size_t i = 0; i < m; i++)
        out[i] = selected(b[i] ^ turned, (c[i] & mine) - r[i], c[i] * rho[i] - product[i]);
}

/* The same of b * floor(z / d): k, its public part, and shares of quotient, jump and their products with rho */
static inline void select_quotients(const u64 *c, const u64 *k, const u64 *const dealt[4], const u64 *b, const u64 *rho,
                                    u64 mine, u64 turned, u64 *restrict out, size_t m) {
    const u64 *quotient = dealt[0], *jump = dealt[1], *rho_quotient = dealt[2], *rho_jump = dealt[3];
    for (size_t i = 0; i < m; i++) {
        u64 over = (c[i] >> 63) - 1;
        out[i] = selected(b[i] ^ turned, (k[i] & mine) - quotient[i] + (jump[i] & over),
                          k[i] * rho[i] - rho_quotient[i] + (rho_jump[i] & over));
    }
}

/* out = one party's share of b * floor(z / d), or of b * z where d is NULL.
 * flip != 0 takes not b for b; rho: its shares of rho. */
static void psm_select_finish(const psm_aes_key *key, u64 base, const psm_divisor *d, int lead,
                              int flip, const u64 *c, const u64 *beta, const u64 *rho,
                              const u64 *corrections, u64 *out, size_t n, size_t begin,
                              size_t end) {
    u64 b[PSM_TILE], k[PSM_TILE], space[4][PSM_TILE], mine = 0 - (u64)(lead != 0), turned = 0 - (u64)(flip != 0);
    const u64 *dealt[4];
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        size_t first = at * 64, rows = d ? 4 : 1;
        psm_tile_masks(beta + at, m, w, b);
        if (d) psm_public_quotients(*d, c + first, k, m);
        for (size_t j = 0; j < rows; j++)
            dealt[j] = psm_dealt(key, base + 1 + j, first, m, corrections ? corrections + j * n : NULL, space[j]);
        if (d) {
            select_quotients(c + first, k, dealt, b, rho + first, mine, turned, out + first, m);
        } else {
            psm_prg_fill(key, base, first, space[1], m);
            select_values(c + first, space[1], dealt[0], b, rho + first, mine, turned, out + first, m);
        }
    }
}
