/* Cosines and sines of the multiples of a secret angle, dealt, and their sum with public factors (turns.inc.h).
 *
 * Dealt words of n elements lie in pieces of `piece` elements, each with a stream of its own: of a piece of m elements
 * word k m + i is the cosine of k + 1 times the angle of element i, and word (terms + k) m + i the sine.
 *
 * With coefficients a and b of a multiple, its dealt cosine is multiplied by (a cos + b sin) / 2^shift of the public
 * angle and its sine by (a sin - b cos) / 2^shift, rounded.  |a|, |b| <= 2^30 and shift >= 30, so that the sums stay
 * below 2^61 and the factors below 2^31.
 */

/* x / 2^shift, rounded, for signed numbers of 62 bits */
static inline vreg turns_rounded(vreg x, unsigned shift) {
    u64 middle = (u64)1 << 62;
    return ((x + (middle + ((u64)1 << (shift - 1)))) >> shift) - (middle >> shift);
}

/* x less the words of all but the last holder */
static inline void turns_take(const psm_aes_key *keys, size_t holders, u64 stream, u64 first, const vreg *x, u64 *out,
                              size_t m) {
    if (holders > 1) psm_prg_sub(keys, stream, first, (const u64 *)x, out, m);
    else memcpy(out, x, m * sizeof(u64));
    for (size_t h = 1; h + 1 < holders; h++) psm_prg_sub(keys + h, stream, first, out, out, m);
}

/* corrections[2 terms n]: of the angles r step, where r is the sum of the words of the stream `mask`; shift 0: not
 * rounded */
static void psm_turns_deal(const psm_aes_key *keys, size_t holders, u64 mask, u64 stream, const psm_angles *a,
                           u64 *corrections, size_t n, size_t begin, size_t end) {
    vreg cosine[TURNS_CHUNK / PSM_REGISTER], sine[TURNS_CHUNK / PSM_REGISTER];
    u64 r[TURNS_CHUNK];
    turning t;
    psm_piece p;
    for (size_t at = begin; at < end; at += p.m) {
        p = psm_piece_of(a->piece, at, n, end, TURNS_CHUNK);
        psm_streams_sum(keys, holders, mask, at, r, p.m);
        turns_begin(&t, r, a->step, p.m);
        u64 *out = corrections + 2 * a->terms * p.first;
        for (size_t k = 0; k < a->terms; k++) {
            for (size_t i = 0; i < t.registers; i++) {
                turn(t.angle[i] += t.step[i], &cosine[i], &sine[i]);
                if (a->shift) cosine[i] = turns_rounded(cosine[i], a->shift), sine[i] = turns_rounded(sine[i], a->shift);
            }
            size_t word = k * p.size + at - p.first, later = word + a->terms * p.size;
            turns_take(keys, holders, stream + p.index, word, cosine, out + word, p.m);
            turns_take(keys, holders, stream + p.index, later, sine, out + later, p.m);
        }
    }
}

/* The next multiple of each angle: what its dealt cosine and sine are multiplied by. */
static inline __attribute__((always_inline))
void turns_factors(turning *t, u64 cosines, u64 sines, unsigned shift, vreg *left, vreg *right) {
    vreg a = (vreg){0} + cosines, b = (vreg){0} + sines, cosine, sine;
    for (size_t i = 0; i < t->registers; i++) {
        turn(t->angle[i] += t->step[i], &cosine, &sine);
        vreg x = (vreg){0}, y = x;
        if (cosines) x += psm_mul32_signed(a, cosine), y += psm_mul32_signed(a, sine);
        if (sines) x += psm_mul32_signed(b, sine), y -= psm_mul32_signed(b, cosine);
        left[i] = turns_rounded(x, shift), right[i] = turns_rounded(y, shift);
    }
}

/* out[i] += left[i] x[i] + right[i] y[i] */
static inline void turns_add(const vreg *left, const vreg *right, const u64 *x, const u64 *y, u64 *out, size_t m) {
    size_t i = 0;
    for (; i + PSM_REGISTER <= m; i += PSM_REGISTER, left++, right++)
        psm_put(out + i, psm_get(out + i) + psm_mul_shorts(psm_get(x + i), *left, psm_get(y + i), *right));
    for (size_t j = 0; i < m; i++, j++) out[i] += (*left)[j] * x[i] + (*right)[j] * y[i];
}

/* out[row][i] += the sum over the multiples of factors of c step times the holder's dealt words.  coefficients: of
 * cosines, then of sines. */
static void psm_turns_combine(const psm_aes_key *keys, size_t holders, ptrdiff_t target, u64 stream,
                              const u64 *corrections, const u64 *c, const u64 *coefficients, const psm_angles *a,
                              u64 *out, size_t n, size_t begin, size_t end) {
    vreg left[TURNS_CHUNK / PSM_REGISTER], right[TURNS_CHUNK / PSM_REGISTER];
    u64 cosine[TURNS_CHUNK], sine[TURNS_CHUNK];
    turning t;
    psm_piece p;
    for (size_t at = begin; at < end; at += p.m) {
        p = psm_piece_of(a->piece, at, n, end, TURNS_CHUNK);
        turns_begin(&t, c + at, a->step, p.m);
        for (size_t k = 0; k < a->terms; k++) {
            turns_factors(&t, coefficients[k], coefficients[a->terms + k], a->shift, left, right);
            size_t word = k * p.size + at - p.first, later = word + a->terms * p.size;
            for (size_t row = 0; row < holders; row++) {
                const u64 *sent = (ptrdiff_t)row == target && corrections ? corrections + 2 * a->terms * p.first : NULL;
                const u64 *x = psm_dealt(keys + row, stream + p.index, word, p.m, sent, cosine);
                const u64 *y = psm_dealt(keys + row, stream + p.index, later, p.m, sent, sine);
                turns_add(left, right, x, y, out + row * n + at, p.m);
            }
        }
    }
}
