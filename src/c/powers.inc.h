/* Powers of e, in integers: secret words that are dealt, and public factors of them, as in turns.inc.h.
 *
 * x times a step, a word y, goes once round a window of 2^s segments of length 2: the upper s bits of y are the
 * segment, the next 33 less 2^32 what is left of it, from -1 to 1 in steps of 2^-32.
 *
 * v = x / 2^32 with |v| <= 1; the result is e^v at 2^40.  A polynomial of degree 12 (the expansion
 * in Chebyshev polynomials as far as that, within 2^-44.4 of e^v) by Horner's rule: v at 2^62, sums
 * at 2^60, products of 64 bits by 64 in 128, rounded down; then rounded to 2^40.  In all off by less
 * than 2^-40.8.  Of another x the result is some word.
 */

enum { POWERS_CHUNK = 256 };

/* out[i] = 2^40 e^(x[i] / 2^32), for up to POWERS_CHUNK words */
static inline void powers_of_e(const u64 *x, u64 *out, size_t n) {
    static const u64 coefficients[] = {
        2453628832, 29490666509, 317649852313, 3176380721829, 28594327327549, 228754724641562,
        1601279852103090, 9607679071388084, 48038396027854552, 192153584117860467, 576460752303262841,
        1152921504606249585, 1152921504606848616,
    };
    for (size_t i = 0; i < n; i++) {
        int64_t v = (int64_t)(x[i] << 30);
        u64 sum = coefficients[0];
        for (size_t k = 1; k < sizeof coefficients / sizeof *coefficients; k++)
            sum = coefficients[k] + (u64)((u128)((__int128)(int64_t)sum * v) >> 62);
        out[i] = (sum + ((u64)1 << 19)) >> 20;
    }
}

/* the segment of y, and what is left of it */
static inline u64 power_segment(u64 y, unsigned segments) { return y >> (64 - segments); }

static inline u64 power_rest(u64 y, unsigned segments) {
    return (y >> (31 - segments) & 0x1FFFFFFFF) - ((u64)1 << 32);
}

/* segments of m words r step, at most POWERS_CHUNK, and e^-rest of them at 2^(40 - shift), rounded */
static inline void powers_of_masks(const u64 *r, const psm_window *a, u64 *segment, u64 *power, size_t m) {
    u64 rest[POWERS_CHUNK];
    for (size_t i = 0; i < m; i++) {
        u64 y = r[i] * a->step;
        segment[i] = power_segment(y, a->segments), rest[i] = 0 - power_rest(y, a->segments);
    }
    powers_of_e(rest, power, m);
    for (size_t i = 0; i < m; i++) power[i] = (power[i] + ((u64)1 << (a->shift - 1))) >> a->shift;
}

/* the powers whose segment is `plane`, and 0 for the others */
static inline void powers_in_plane(const u64 *segment, const u64 *power, size_t plane, u64 *out, size_t m) {
    for (size_t i = 0; i < m; i++) {
        u64 other = segment[i] ^ plane; /* 0 in its plane, and else below 2^32 */
        out[i] = power[i] & (u64)((int64_t)(other - 1) >> 63);
    }
}

/* segments of m public words (c - start) step, and e^rest of them at 2^29 */
static inline void powers_of_opened(const u64 *c, const psm_window *a, u64 *segment, u64 *power, size_t m) {
    u64 rest[POWERS_CHUNK];
    for (size_t i = 0; i < m; i++) {
        u64 y = (c[i] - a->start) * a->step;
        segment[i] = power_segment(y, a->segments), rest[i] = power_rest(y, a->segments);
    }
    powers_of_e(rest, power, m);
    for (size_t i = 0; i < m; i++) power[i] >>= 11;
}

/* what a plane's words are multiplied by: entry segment - plane mod 2^segments of the table, mantissa 2^-shift, times the
 * power, rounded */
static inline void powers_factors(const u64 *segment, const u64 *power, size_t plane, unsigned segments,
                                  const u64 *mantissas, const u64 *shifts, u64 *out, size_t m) {
    u64 below = ((u64)1 << segments) - 1;
    for (size_t i = 0; i < m; i++) {
        u64 from = (segment[i] - plane) & below, shift = shifts[from];
        out[i] = (mantissas[from] * power[i] + ((u64)1 << (shift - 1))) >> shift;
    }
}

/* out[2^segments][n]: e^-rest of r step in the plane of its segment, and 0 in the others */
static void psm_powers_dealt(const u64 *r, u64 step, unsigned segments, unsigned shift, u64 *out, size_t n,
                             size_t begin, size_t end) {
    psm_window a = {.step = step, .segments = segments, .shift = shift};
    u64 segment[POWERS_CHUNK], power[POWERS_CHUNK];
    for (size_t at = begin; at < end; at += POWERS_CHUNK) {
        size_t m = end - at < POWERS_CHUNK ? end - at : POWERS_CHUNK;
        powers_of_masks(r + at, &a, segment, power, m);
        for (size_t plane = 0; plane < (size_t)1 << segments; plane++)
            powers_in_plane(segment, power, plane, out + plane * n + at, m);
    }
}

/* out[2^segments][n], of public c */
static void psm_powers_public(const u64 *c, u64 start, u64 step, unsigned segments, const u64 *mantissas,
                              const u64 *shifts, u64 *out, size_t n, size_t begin, size_t end) {
    psm_window a = {.start = start, .step = step, .segments = segments};
    u64 segment[POWERS_CHUNK], power[POWERS_CHUNK];
    for (size_t at = begin; at < end; at += POWERS_CHUNK) {
        size_t m = end - at < POWERS_CHUNK ? end - at : POWERS_CHUNK;
        powers_of_opened(c + at, &a, segment, power, m);
        for (size_t plane = 0; plane < (size_t)1 << segments; plane++)
            powers_factors(segment, power, plane, segments, mantissas, shifts, out + plane * n + at, m);
    }
}

/* corrections [2^segments n], piece by piece: psm_powers_dealt of the words of the stream `mask`, less others' shares */
static void psm_powers_deal(const psm_aes_key *keys, size_t holders, u64 mask, u64 stream, const psm_window *a,
                            u64 *corrections, size_t n, size_t begin, size_t end) {
    u64 r[POWERS_CHUNK], segment[POWERS_CHUNK], power[POWERS_CHUNK];
    size_t planes = (size_t)1 << a->segments;
    psm_piece p;
    for (size_t at = begin; at < end; at += p.m) {
        p = psm_piece_of(a->piece, at, n, end, POWERS_CHUNK);
        psm_streams_sum(keys, holders, mask, at, r, p.m);
        powers_of_masks(r, a, segment, power, p.m);
        for (size_t plane = 0; plane < planes; plane++) {
            size_t word = plane * p.size + at - p.first;
            u64 *out = corrections + planes * p.first + word;
            powers_in_plane(segment, power, plane, out, p.m);
            psm_streams_take(keys, holders, stream + p.index, word, out, p.m);
        }
    }
}

/* out[row][i] += the sum over the planes of psm_powers_public of c times the holder's dealt words */
static void psm_powers_combine(const psm_aes_key *keys, size_t holders, ptrdiff_t target, u64 stream,
                               const u64 *corrections, const u64 *c, const psm_window *a, const u64 *mantissas,
                               const u64 *shifts, u64 *out, size_t n, size_t begin, size_t end) {
    u64 segment[POWERS_CHUNK], power[POWERS_CHUNK], factors[POWERS_CHUNK], space[POWERS_CHUNK];
    size_t planes = (size_t)1 << a->segments;
    psm_piece p;
    for (size_t at = begin; at < end; at += p.m) {
        p = psm_piece_of(a->piece, at, n, end, POWERS_CHUNK);
        powers_of_opened(c + at, a, segment, power, p.m);
        for (size_t plane = 0; plane < planes; plane++) {
            size_t word = plane * p.size + at - p.first;
            powers_factors(segment, power, plane, a->segments, mantissas, shifts, factors, p.m);
            for (size_t row = 0; row < holders; row++) {
                const u64 *sent = (ptrdiff_t)row == target && corrections ? corrections + planes * p.first : NULL;
                const u64 *x = psm_dealt(keys + row, stream + p.index, word, p.m, sent, space);
                u64 *sum = out + row * n + at;
                for (size_t i = 0; i < p.m; i++) sum[i] += factors[i] * x[i];
            }
        }
    }
}
