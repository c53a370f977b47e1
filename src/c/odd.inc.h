/* The odd ring Z_(2^64 - 1), and the way there from Z_2^64 (SecureNN, algorithms 4 and 5).
 *
 * An element is a word from 0 to 2^64 - 2.  A uniform word is read as one by taking all
 * ones for 0: 2^-64 from uniform (statistical distance).  [first, last) are elements, of
 * which `first` begins a tile of bits.inc.h.
 */

static inline u64 odd_from(u64 x) { return x + (x == ~(u64)0); }

static inline u64 odd_add(u64 x, u64 y) {
    u64 sum = x + y;
    return odd_from(sum + (sum < x)); /* 2^64 is 1 */
}

/* -x, also of 2^64 - 1 */
static inline u64 odd_negative(u64 x) { return odd_from(~x); }

enum { ODD_CHUNK = PSM_TILE };

#define ODD_CHUNKS(at, m)                                                                          \
    for (size_t at = first, m; at < last && (m = last - at < ODD_CHUNK ? last - at : ODD_CHUNK, 1); at += m)

/* P2: the sum x of two words, and what makes shares of its carry, with the stream of the other holder */
static void psm_odd_sum(const psm_aes_key *key, u64 stream, const u64 *a, const u64 *b, u64 *x,
                        u64 *carry, size_t first, size_t last) {
    u64 share[ODD_CHUNK];
    ODD_CHUNKS(at, m) {
        psm_prg_fill(key, stream, at, share, m);
        for (size_t i = 0; i < m; i++) {
            u64 sum = a[at + i] + b[at + i];
            carry[at + i] = odd_add(sum < a[at + i], odd_negative(odd_from(share[i])));
            x[at + i] = sum;
        }
    }
}

/* P2: what makes shares of the bits found */
static void psm_odd_bits(const psm_aes_key *key, u64 stream, const u64 *found, size_t n, u64 *out,
                         size_t first, size_t last) {
    u64 share[ODD_CHUNK], bit[ODD_CHUNK];
    ODD_CHUNKS(at, m) {
        psm_tile_masks(found + at / 64, m, psm_width(at / 64, (n + 63) / 64), bit);
        psm_prg_fill(key, stream, at, share, m);
        for (size_t i = 0; i < m; i++)
            out[at + i] = odd_add(bit[i] & 1, odd_negative(odd_from(share[i])));
    }
}

/* P2: the sum of two holders' streams */
static void psm_odd_total(const psm_aes_key *keys, u64 stream, u64 *out, size_t first, size_t last) {
    u64 share[ODD_CHUNK];
    ODD_CHUNKS(at, m) {
        psm_prg_fill(&keys[0], stream, at, out + at, m);
        psm_prg_fill(&keys[1], stream, at, share, m);
        for (size_t i = 0; i < m; i++) out[at + i] = odd_add(odd_from(out[at + i]), odd_from(share[i]));
    }
}

/* A holder: its share of a + before as an element of the odd ring, plus `after`.
 *
 *   theta = beta_0 + beta_1 - alpha - 1 + delta + eta    is whether the shares of a wrap,
 *   y = a_0 + a_1 - theta                                is a mod 2^64 - 1,
 *
 * with beta_j = [a_j + r_j >= 2^64], alpha = [r_0 + r_1 >= 2^64] and shares of delta and
 * of eta ^ flip.  Streams from `base` under `pair`: r_0, r_1, control (bit 6: flip);
 * shares: words for delta and eta, or NULL, streams from `own` under `key`. */
static void psm_odd_finish(const psm_aes_key *key, u64 own, const psm_aes_key *pair, u64 base,
                           int lead, u64 before, u64 after, const u64 *a, const u64 *delta,
                           const u64 *eta, size_t n, u64 *out, size_t first, size_t last) {
    u64 r[ODD_CHUNK], s[ODD_CHUNK], d[ODD_CHUNK], e[ODD_CHUNK], flip[ODD_CHUNK];
    u64 control[SNN_CONTROL * PSM_LANES], packed[PSM_LANES];
    if (!lead) before = after = 0;
    ODD_CHUNKS(at, m) {
        size_t w = psm_width(at / 64, (n + 63) / 64);
        psm_prg_fill(pair, base + 2, SNN_CONTROL * (at / 64), control, SNN_CONTROL * w);
        for (size_t i = 0; i < w; i++) packed[i] = control[SNN_CONTROL * i + 6];
        psm_tile_masks(packed, m, w, flip);
        psm_prg_fill(pair, base, at, r, m);
        psm_prg_fill(pair, base + 1, at, s, m);
        if (delta) memcpy(d, delta + at, m * sizeof(u64)), memcpy(e, eta + at, m * sizeof(u64));
        else psm_prg_fill(key, own, at, d, m), psm_prg_fill(key, own + 1, at, e, m);
        for (size_t i = 0; i < m; i++) {
            u64 mine = a[at + i] + before, mask = lead ? r[i] : s[i];
            u64 beta = mine + mask < mask, alpha = r[i] + s[i] < r[i];
            u64 y = odd_add(odd_from(mine), odd_negative(beta));
            y = odd_add(y, odd_negative(odd_from(d[i])));
            y = odd_add(y, odd_from(odd_from(e[i]) ^ ~flip[i])); /* - eta: flip turns it round */
            if (lead) y = odd_add(odd_add(y, odd_negative(flip[i] & 1)), odd_add(1 + alpha, after));
            out[at + i] = y;
        }
    }
}

/* A holder: its message 2 y + x of ComputeMSB, x being its stream */
static void psm_odd_double(const psm_aes_key *key, u64 stream, const u64 *y, u64 *out, size_t first,
                           size_t last) {
    u64 share[ODD_CHUNK];
    ODD_CHUNKS(at, m) {
        psm_prg_fill(key, stream, at, share, m);
        for (size_t i = 0; i < m; i++)
            out[at + i] = odd_add(y[at + i] << 1 | y[at + i] >> 63, odd_from(share[i]));
    }
}

/* The odd sum of two messages, of which one holder knows `mine` and both their sum mod 2^64 */
static void psm_odd_opened(const u64 *sum, const u64 *mine, u64 *out, size_t first, size_t last) {
    for (size_t i = first; i < last; i++) out[i] = odd_from(sum[i] + (sum[i] < mine[i]));
}
