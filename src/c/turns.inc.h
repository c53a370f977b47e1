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
static inline void turn(vreg t, vreg *cosine, vreg *sine) {
    vreg below = psm_not_tops(t << 2); /* all ones where the rest is negative */
    vreg a = (t >> 29) ^ below, u = psm_mul32_upper(a, a); /* of a the lower half */
    vreg c = 2799821 - psm_mul32_upper(u, (vreg){0} + 30334);
    c = 2649351743 - psm_mul32_upper(u, 136187638 - psm_mul32_upper(u, c));
    vreg s = 10696154 - psm_mul32_upper(u, 157073 - psm_mul32_upper(u, (vreg){0} + 1325));
    s = 3373259426 - psm_mul32_upper(u, 346799333 - psm_mul32_upper(u, s));
    c = (1 << 30) - ((psm_mul32(u, c) + ((u64)4 << 32)) >> 35);
    s = (((psm_mul32(a, s) + ((u64)2 << 32)) >> 34) ^ below) - below;
    /* (c, s), (-s, c), (-c, -s), (s, -c) */
    vreg swap = (c ^ s) & psm_tops(t << 1), first = psm_tops(t + ((u64)1 << 62)), second = psm_tops(t);
    *cosine = ((c ^ swap) ^ first) - first;
    *sine = ((s ^ swap) ^ second) - second;
}

/* Angles of up to TURNS_CHUNK elements, of which there are `registers`: their phases are step less 2^61 at first. */
typedef struct {
    size_t registers;
    vreg step[TURNS_CHUNK / PSM_REGISTER], angle[TURNS_CHUNK / PSM_REGISTER];
} turning;

/* step[i] = phase[i] factor */
static inline void turns_begin(turning *t, const u64 *phase, u64 factor, size_t m) {
    t->registers = (m + PSM_REGISTER - 1) / PSM_REGISTER;
    if (m % PSM_REGISTER) t->step[t->registers - 1] = (vreg){0};
    memcpy(t->step, phase, m * sizeof(u64));
    for (size_t i = 0; i < t->registers; i++) {
        t->step[i] *= factor;
        t->angle[i] = (vreg){0} + ((u64)1 << 61);
    }
}

/* out[2 k - 2] and out[2 k - 1], rows of n: 2^30 times cosine and sine of k phases, for 1 <= k <= count */
static void psm_turns(const u64 *phase, size_t count, u64 *out, size_t n, size_t begin, size_t end) {
    vreg cosine[TURNS_CHUNK / PSM_REGISTER], sine[TURNS_CHUNK / PSM_REGISTER];
    turning t;
    for (size_t at = begin; at < end; at += TURNS_CHUNK) {
        size_t m = end - at < TURNS_CHUNK ? end - at : TURNS_CHUNK;
        turns_begin(&t, phase + at, 1, m);
        for (size_t k = 0; k < count; k++) {
            u64 *row = out + 2 * k * n + at;
            for (size_t i = 0; i < t.registers; i++) turn(t.angle[i] += t.step[i], &cosine[i], &sine[i]);
            memcpy(row, cosine, m * sizeof(u64));
            memcpy(row + n, sine, m * sizeof(u64));
        }
    }
}
