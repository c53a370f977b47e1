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

/* out = one party's share of b * floor(z / d), or of b * z where d is NULL.
 * flip != 0 takes not b for b; rho: its shares of rho. */
static void psm_select_finish(const psm_aes_key *key, u64 base, const psm_divisor *d, int lead,
                              int flip, const u64 *c, const u64 *beta, const u64 *rho,
                              const u64 *corrections, u64 *out, size_t n, size_t begin,
                              size_t end) {
    u64 b[PSM_TILE], k[PSM_TILE], t[PSM_TILE], s[PSM_TILE], space[PSM_TILE];
    const u64 *dealt;
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        size_t first = at * 64;
        psm_tile_masks(beta + at, m, w, b);
        if (flip)
            for (size_t i = 0; i < m; i++) b[i] = ~b[i];
        if (d) {
            psm_public_quotients(*d, c + first, k, m);
#define DEALT(row) psm_dealt(key, base + 1 + row, first, m, corrections ? corrections + row * n : NULL, space)
            dealt = DEALT(0);
            for (size_t i = 0; i < m; i++) t[i] = 0 - dealt[i];
            dealt = DEALT(1);
            for (size_t i = 0; i < m; i++) t[i] += dealt[i] & ((c[first + i] >> 63) - 1);
            dealt = DEALT(2);
            for (size_t i = 0; i < m; i++) s[i] = k[i] * rho[first + i] - dealt[i];
            dealt = DEALT(3);
            for (size_t i = 0; i < m; i++) s[i] += dealt[i] & ((c[first + i] >> 63) - 1);
        } else {
            memcpy(k, c + first, m * sizeof(u64));
            psm_prg_fill(key, base, first, t, m);
            for (size_t i = 0; i < m; i++) t[i] = 0 - t[i];
            dealt = DEALT(0);
            for (size_t i = 0; i < m; i++) s[i] = k[i] * rho[first + i] - dealt[i];
#undef DEALT
        }
        if (lead)
            for (size_t i = 0; i < m; i++) t[i] += k[i];
        for (size_t i = 0; i < m; i++) out[first + i] = (t[i] & b[i]) + ((s[i] ^ b[i]) - b[i]);
    }
}
