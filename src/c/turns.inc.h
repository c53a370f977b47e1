/* Cosines and sines of the multiples of an angle, in integers.
 *
 * A phase is a word: of a turn 2^64 parts, so that k phases wrap where k turns do and the k-th
 * multiple is exact.  Public factors of secret words come out of here, and a last bit in which two
 * machines differ would make noise of their sum: there is no float here, and every product is of
 * 32 bits by 32 with the upper half kept, so that a compiler may do it in lanes of any width.
 *
 * The phase is split in its nearest quarter turn q and a rest of at most an eighth of a turn, whose
 * magnitude is a 32-bit fraction a; of u = a^2,
 *     cos = 1 - u (C0 - u (C1 - u (C2 - u C3)))                at 2^33, error below 2^-34,
 *     sin = a (S0 - u (S1 - u (S2 - u (S3 - u S4))))           at 2^32, error below 2^-39,
 * minimax polynomials of 1 - cos and sin of pi a / 4 on [0, 1] (reweighted least squares).  With
 * what products lose, a result is off by less than 2^-29.5 (1.4 steps of its scale), whatever the
 * multiple: each is evaluated anew.  Rotating the first angle k times takes half of the time, but
 * is off by 2^-25.9 at k = 16 and 2^-24.9 at 32 (measured).
 */

enum { TURNS_CHUNK = 256 };

/* 2^30 times cosine and sine of the angles whose phases are t - 2^61 */
static inline void turn(v8 t, v8 *cosine, v8 *sine) {
    v8 below = (t >> 61 & 1) - 1; /* all ones where the rest is negative */
    v8 a = ((t >> 29) ^ below) & 0xFFFFFFFF, u = psm_mul32_upper(a, a);
    v8 c = 2799821 - psm_mul32_upper(u, (v8){0} + 30334);
    c = 2649351743 - psm_mul32_upper(u, 136187638 - psm_mul32_upper(u, c));
    v8 s = 10696154 - psm_mul32_upper(u, 157073 - psm_mul32_upper(u, (v8){0} + 1325));
    s = 3373259426 - psm_mul32_upper(u, 346799333 - psm_mul32_upper(u, s));
    c = (1 << 30) - ((psm_mul32_upper(u, c) + 4) >> 3);
    s = (((psm_mul32_upper(a, s) + 2) >> 2) ^ below) - below;
    /* (c, s), (-s, c), (-c, -s), (s, -c) */
    v8 swap = (c ^ s) & (0 - (t >> 62 & 1)), first = 0 - ((t + ((u64)1 << 62)) >> 63), second = 0 - (t >> 63);
    *cosine = ((c ^ swap) ^ first) - first;
    *sine = ((s ^ swap) ^ second) - second;
}

/* out[2 k - 2] and out[2 k - 1], rows of n: 2^30 times cosine and sine of k phases, for 1 <= k <= count */
static void psm_turns(const u64 *phase, size_t count, u64 *out, size_t n, size_t begin, size_t end) {
    v8 step[TURNS_CHUNK / PSM_LANES], angle[TURNS_CHUNK / PSM_LANES], cosine, sine;
    for (size_t at = begin; at < end; at += TURNS_CHUNK) {
        size_t m = end - at < TURNS_CHUNK ? end - at : TURNS_CHUNK;
        for (size_t i = 0; i < m; i += PSM_LANES) {
            step[i / PSM_LANES] = psm_load(phase + at + i, psm_width(i, m));
            angle[i / PSM_LANES] = (v8){0} + ((u64)1 << 61);
        }
        for (size_t k = 0; k < count; k++) {
            u64 *row = out + 2 * k * n + at;
            for (size_t i = 0; i < m; i += PSM_LANES) {
                size_t w = psm_width(i, m);
                turn(angle[i / PSM_LANES] += step[i / PSM_LANES], &cosine, &sine);
                psm_store(row + i, &cosine, w);
                psm_store(row + n + i, &sine, w);
            }
        }
    }
}
