/* Division of a shared z by a public divisor, with one opening.
 *
 * With |z| <= offset (a multiple of the divisor next to 2^62) the parties open
 * c = z + offset + r.  The sum wraps mod 2^64 exactly when r >= 2^63 and
 * c < 2^63, so c minus the integer r (c >= 2^63), or minus r taken as a signed
 * integer (c < 2^63), is z + offset over the integers: no catastrophic error.
 * The dealer shares  quotient = floor(r / d)  and
 * jump = quotient - floor(signed r / d)  (zero when r < 2^63); then
 *     floor(c / d) - quotient + [c < 2^63] * jump - offset / d
 * is floor(z / d) or that plus one, rounding up with probability (z mod d) / d.
 *
 * Where d is large, the upper halves of the messages are enough: two of them travel in
 * a word, and a word of sums holds c / 2^32, less at most n - 1 for what the n lower
 * halves would have carried, and in every second half plus at most n - 1 that came from
 * the half below.  That is c for another z, at most (2 n - 1) 2^31 away once the middle
 * of what is unknown is added (psm_widen).  |z| is to be smaller by as much.
 *
 * For d = 2^p the jump is 2^(64 - p) times the most significant bit of r, of which
 * shares mod 2^p are enough: with p <= 40 they are dealt in 40 bits.
 */

/* Division by an invariant d >= 1 without a divide instruction, whose time
 * would depend on the data (Granlund and Montgomery, PLDI 1994, figure 4.1). */
static inline u64 psm_divide(psm_divisor d, u64 x) {
    u64 t = (u64)(((u128)d.magic * x) >> 64);
    return (t + ((x - t) >> d.shift1)) >> d.shift2;
}

static inline u64 psm_signed_jump(psm_divisor d, u64 r, u64 quotient) {
    u64 negative = 0 - (r >> 63);
    return (quotient + psm_divide(d, ~r) + 1) & negative;
}

#define PSM_TILE 512

/* Dealt shares: every holder's is its word of a stream, but for the last holder,
 * who is sent its own: what is left of the value. */

/* acc = sum of all words of the stream: a mask that needs no message */
static void psm_streams_sum(const psm_aes_key *keys, size_t holders, u64 stream, u64 first,
                            u64 *acc, size_t n) {
    psm_prg_fill(&keys[0], stream, first, acc, n);
    for (size_t p = 1; p < holders; p++) psm_prg_add(&keys[p], stream, first, acc, acc, n);
}

/* acc = the last holder's share of acc */
static void psm_streams_take(const psm_aes_key *keys, size_t holders, u64 stream, u64 first,
                             u64 *acc, size_t n) {
    for (size_t p = 0; p + 1 < holders; p++) psm_prg_sub(&keys[p], stream, first, acc, acc, n);
}

/* One holder's share: what it was sent, or drawn into `space`. */
static inline const u64 *psm_dealt(const psm_aes_key *key, u64 stream, size_t first, size_t n,
                                   const u64 *corrections, u64 *space) {
    if (corrections) return corrections + first;
    psm_prg_fill(key, stream, first, space, n);
    return space;
}

/* Of words that are dealt in pieces of `size` elements, each under a stream of its own: the piece in which element `at` of
 * n is, where it begins, how many elements it has, and how many of them, from `at` on, are worked on at once: at most
 * `chunk`, and none from `end` on. */
typedef struct {
    size_t index, first, size, m;
} psm_piece;

static inline psm_piece psm_piece_of(size_t size, size_t at, size_t n, size_t end, size_t chunk) {
    psm_piece p = {.index = at / size};
    p.first = p.index * size;
    p.size = n - p.first < size ? n - p.first : size;
    size_t last = p.first + p.size < end ? p.first + p.size : end;
    p.m = last - at < chunk ? last - at : chunk;
    return p;
}

/* quotient and jump of m words of r; a power of two needs no division */
static void psm_quotients(psm_divisor d, const u64 *r, u64 *quotient, u64 *jump, size_t m) {
    if (d.power) {
        for (size_t i = 0; i < m; i++) {
            quotient[i] = r[i] >> d.power;
            jump[i] = (r[i] >> 63) << (64 - d.power);
        }
    } else {
        for (size_t i = 0; i < m; i++) {
            quotient[i] = psm_divide(d, r[i]);
            jump[i] = psm_signed_jump(d, r[i], quotient[i]);
        }
    }
}

static inline int psm_short_jump(psm_divisor d) { return d.power && d.power <= 40; }

/* Shares mod 2^40 are kept as 32 low bits of each, then 8 high ones: where, for n of them. */
static inline size_t psm_low_words(size_t n) { return (n + 1) / 2; }
static inline size_t psm_high_words(size_t n) { return (n + 7) / 8; }

typedef uint32_t __attribute__((may_alias)) psm_half; /* of a word */
typedef uint32_t psm_halves __attribute__((vector_size(4 * PSM_REGISTER)));

/* out = m of them, from the words of both parts, 2^shift times */
static inline void psm_join(const u64 *low, const u64 *high, unsigned shift, u64 *restrict out, size_t m) {
    const psm_half *l = (const psm_half *)low;
    const uint8_t *h = (const uint8_t *)high;
    for (size_t i = 0; i < m; i++) out[i] = (l[i] | (u64)h[i] << 32) << shift;
}

/* out -= m of them */
static inline void psm_join_less(const u64 *low, const u64 *high, u64 *restrict out, size_t m) {
    const psm_half *l = (const psm_half *)low;
    const uint8_t *h = (const uint8_t *)high;
    for (size_t i = 0; i < m; i++) out[i] -= l[i] | (u64)h[i] << 32;
}

/* the words of both parts, from m of them */
static inline void psm_part(const u64 *x, u64 *restrict low, u64 *restrict high, size_t m) {
    psm_half *l = (psm_half *)low;
    uint8_t *h = (uint8_t *)high;
    low[psm_low_words(m) - 1] = high[psm_high_words(m) - 1] = 0;
    for (size_t i = 0; i < m; i++) l[i] = (uint32_t)x[i];
    for (size_t i = 0; i < m; i++) h[i] = (uint8_t)(x[i] >> 32);
}

/* the last holder's shares of the most significant bits of m words of r at `at` */
static void psm_short_jumps(const psm_aes_key *keys, size_t holders, u64 stream, size_t at,
                            u64 *r, u64 *low, u64 *high, size_t m) {
    u64 drawn[2][PSM_TILE / 2];
    for (size_t i = 0; i < m; i++) r[i] >>= 63;
    for (size_t p = 0; p + 1 < holders; p++) {
        psm_prg_fill(&keys[p], stream, at / 2, drawn[0], psm_low_words(m));
        psm_prg_fill(&keys[p], stream + 1, at / 8, drawn[1], psm_high_words(m));
        psm_join_less(drawn[0], drawn[1], r, m);
    }
    psm_part(r, low + at / 2, high + at / 8, m);
}

/* one holder's shares of the jumps; corrections: for n of them */
static void psm_short_jump_shares(const psm_aes_key *key, u64 stream, unsigned power, size_t at,
                                  size_t m, const u64 *corrections, size_t n, u64 *out) {
    u64 drawn[2][PSM_TILE / 2];
    const u64 *more = corrections ? corrections + psm_low_words(n) : NULL;
    const u64 *low = psm_dealt(key, stream, at / 2, psm_low_words(m), corrections, drawn[0]);
    const u64 *high = psm_dealt(key, stream + 1, at / 8, psm_high_words(m), more, drawn[1]);
    psm_join(low, high, 64 - power, out, m);
}

static void psm_public_quotients(psm_divisor d, const u64 *c, u64 *quotient, size_t m) {
    if (d.power)
        for (size_t i = 0; i < m; i++) quotient[i] = (c[i] >> d.power) - d.offset_quotient;
    else
        for (size_t i = 0; i < m; i++) quotient[i] = psm_divide(d, c[i]) - d.offset_quotient;
}

/* The dealer's message: [0..n) of quotient, from n on of jump: n words, or those of 40 bits
 * each.  `begin` is a multiple of PSM_TILE.
 * Streams base, base + 1, base + 2 carry r, quotient and jump; base + 3 its high bits.
 * owed, or NULL: what the parties' z lacks of the value, known to the dealer; then
 * r is what they drew less factor * owed, as uniform as before. */
static void psm_truncate_deal(const psm_aes_key *keys, size_t holders, u64 base, psm_divisor d,
                              const u64 *owed, u64 factor, size_t begin, size_t end,
                              u64 *corrections, size_t n) {
    u64 r[PSM_TILE];
    for (size_t at = begin; at < end; at += PSM_TILE) {
        size_t m = end - at < PSM_TILE ? end - at : PSM_TILE;
        u64 space[PSM_TILE], *quotient = corrections + at;
        u64 *jump = psm_short_jump(d) ? space : corrections + n + at;
        psm_streams_sum(keys, holders, base, at, r, m);
        if (owed)
            for (size_t i = 0; i < m; i++) r[i] -= factor * owed[at + i];
        psm_quotients(d, r, quotient, jump, m);
        psm_streams_take(keys, holders, base + 1, at, quotient, m);
        if (psm_short_jump(d))
            psm_short_jumps(keys, holders, base + 2, at, r, corrections + n,
                            corrections + n + psm_low_words(n), m);
        else
            psm_streams_take(keys, holders, base + 2, at, jump, m);
    }
}

/* out = the upper halves of m words */
static void psm_upper(const u64 *x, psm_half *restrict out, size_t m) {
    for (size_t i = 0; i < m; i++) out[i] = (uint32_t)(x[i] >> 32);
}

/* out = m words whose upper halves were summed over the holders, two in a word.  Where that is
 * a multiple of 2^32, 1 is taken from a random half of them: at a multiple of d the quotient
 * is then as often too small as it is too large. */
static void psm_widen(const psm_half *halves, unsigned holders, u64 *restrict out, size_t m) {
    vreg middle, less; /* every second element is the first half of a word */
    for (size_t j = 0; j < PSM_REGISTER; j++) {
        middle[j] = (u64)(j % 2 ? 1 : holders) << 31;
        less[j] = j % 2 ? 0 : ~holders & 1;
    }
    size_t i = 0;
    for (; i + PSM_REGISTER <= m; i += PSM_REGISTER) {
        psm_halves some;
        memcpy(&some, halves + i, sizeof some);
        vreg whole = __builtin_convertvector(some, vreg) << 32;
        psm_put(out + i, whole + middle - (less & whole >> 62));
    }
    for (; i < m; i++)
        out[i] = ((u64)halves[i] << 32) + middle[i % 2] - (less[i % 2] & halves[i] >> 30);
}

/* out = factor * z + r (+ offset for the leading party): the message of one party; its
 * upper halves if `halves` is not 0 */
static void psm_truncate_mask(const psm_aes_key *key, u64 base, u64 offset, u64 factor,
                              const u64 *z, u64 *out, unsigned halves, size_t begin, size_t end) {
    u64 space[PSM_TILE], whole[PSM_TILE];
    for (size_t at = begin; at < end; at += PSM_TILE) {
        size_t m = end - at < PSM_TILE ? end - at : PSM_TILE;
        const u64 *x = z + at;
        if (factor != 1) {
            for (size_t i = 0; i < m; i++) space[i] = factor * x[i];
            x = space;
        }
        u64 *to = halves ? whole : out + at;
        psm_prg_add(key, base, at, x, to, m);
        if (offset)
            for (size_t i = 0; i < m; i++) to[i] += offset;
        if (halves) psm_upper(whole, (psm_half *)out + at, m);
    }
}

/* out = one party's shares of the quotients of what was opened, and what is added to them; x may be NULL */
static inline __attribute__((always_inline))
void psm_quotient_shares(const u64 *opened, const u64 *jump, const u64 *quotient, const u64 *added, const u64 *x,
                         u64 *out, size_t m) {
    for (size_t i = 0; i < m; i++)
        out[i] = (jump[i] & ((opened[i] >> 63) - 1)) - quotient[i] + added[i] + (x ? x[i] : 0);
}

/* One party's share of the quotient (plus its share `x` of something else, unless NULL);
 * corrections: of the holder who was sent them.  halves: of how many holders c is sums of upper
 * halves; 0 where it is whole. */
static void psm_truncate_finish(const psm_aes_key *key, u64 base, psm_divisor d, int lead,
                                const u64 *c, unsigned halves, const u64 *corrections, const u64 *x,
                                u64 *out, size_t begin, size_t end, size_t n) {
    u64 space[2][PSM_TILE], whole[PSM_TILE], added[PSM_TILE] = {0};
    for (size_t at = begin; at < end; at += PSM_TILE) {
        size_t m = end - at < PSM_TILE ? end - at : PSM_TILE;
        const u64 *quotient = psm_dealt(key, base + 1, at, m, corrections, space[0]);
        const u64 *rest = corrections ? corrections + n : NULL, *jump = space[1], *opened = c + at;
        if (halves) {
            psm_widen((const psm_half *)c + at, halves, whole, m);
            opened = whole;
        }
        if (psm_short_jump(d))
            psm_short_jump_shares(key, base + 2, d.power, at, m, rest, n, space[1]);
        else
            jump = psm_dealt(key, base + 2, at, m, rest, space[1]);
        if (lead) psm_public_quotients(d, opened, added, m);
        if (x)
            psm_quotient_shares(opened, jump, quotient, added, x + at, out + at, m);
        else
            psm_quotient_shares(opened, jump, quotient, added, NULL, out + at, m);
    }
}

/* Local truncation of two parties (SecureML): the leading party shifts its
 * share, the other the negative of its own.  Wrong by 2^(64 - f) with
 * probability |z| / 2^64. */
static void psm_truncate_local(const u64 *z, unsigned f, int lead, u64 *out, size_t n) {
    if (lead)
        for (size_t i = 0; i < n; i++) out[i] = z[i] >> f;
    else
        for (size_t i = 0; i < n; i++) out[i] = 0 - ((0 - z[i]) >> f);
}
