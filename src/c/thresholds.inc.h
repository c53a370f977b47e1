/* Which of many public ends an opened x reaches: signs of x - t for every end t, and sums of them.
 *
 * All share the opening c = x + r, the monomials of r and with them one pass over both: the bit planes of c are
 * made once, those of c - t follow by a subtraction of one bit after the other, and the monomials are drawn or read
 * once.  Everything under which something is opened is of each end's own, as in compare.inc.h.
 *
 * Streams: those of the first end begin at `first`, those of end j > 0 at rest + (j - 1) apart.  Words of one end
 * follow those of the one before, in the order in which that many comparisons would make them.
 */

static inline u64 end_stream(u64 first, u64 rest, u64 apart, size_t j) { return j ? rest + (j - 1) * apart : first; }

/* out = the lowest `count` planes of numbers whose planes are given, less t */
CIRCUIT void planes_less(const u64 *planes, u64 t, size_t count, u64 *out) {
    for (size_t o = 0; o < PSM_LANES; o += PSM_REGISTER) {
        vreg borrow = {0};
        for (size_t i = 0; i < count; i++) {
            vreg bit = psm_get(planes + PSM_LANES * i + o), set = (vreg){0} - (t >> i & 1);
            psm_put(out + PSM_LANES * i + o, bit ^ borrow ^ set);
            borrow = (~bit & (borrow | set)) | (borrow & set);
        }
    }
}

/* Round 1 for every end: state and message of each as psm_compare_chunks makes them */
static void psm_thresholds_chunks(const psm_aes_key *key, u64 known, u64 first, u64 rest, u64 apart, int nodes, int lead,
                                  const u64 *corrections, const u64 *c, const u64 *ends, size_t count, size_t n,
                                  size_t begin, size_t end, u64 *state, u64 *message) {
    u64 planes[PSM_TILE], bits[PSM_TILE], space[CHUNK_PLANES(NODES) * PSM_LANES], masks[NODE_MASKS(NODES) * PSM_LANES];
    u64 last[(NODES + 1) * PSM_LANES], sent[NODE_MASKS(NODES) * PSM_LANES];
    size_t words = (n + 63) / 64, rows = (size_t)nodes + 1;
    vreg one = (vreg){0} - (u64)(lead != 0);
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        psm_planes(c + at * 64, m, w, 0, planes);
        const u64 *in = planes_of(key, known + S_CHUNKS, at, CHUNK_PLANES(nodes), w, corrections, space);
        for (size_t j = 0; j < count; j++) {
            u64 base = end_stream(first, rest, apart, j);
            u64 *to = state + (j * words + at) * rows, *told = message + (j * words + at) * NODE_MASKS(nodes);
            planes_less(planes, ends[j], 16 * (size_t)nodes, bits);
            const u64 *mask = planes_of(key, base + S_NODE_MASKS, at, NODE_MASKS(nodes), w, NULL, masks);
            u64 *keep = psm_spread_out(to, w, last), *out = psm_spread_out(told, w, sent);
            EACH_PART(o, w) chunks_part(bits + o, in + o, mask + o, NODES - nodes, one, keep + o, out + o);
            psm_close(keep, rows, w, to);
            psm_close(out, NODE_MASKS(nodes), w, told);
        }
    }
}

/* One party's shares of `sums` sums over the ends: constants[k] + sum over j of weights[k][j] [x reaches end j], rows of
 * `between` words.  betas: the opened [x < end] of each end under its dealt bit, of which the shares are of the stream
 * `first` and so on, or `step` words apart in the corrections. */
static void psm_thresholds_sums(const psm_aes_key *key, u64 first, u64 rest, u64 apart, int lead,
                                const u64 *corrections, size_t step, const u64 *betas, size_t count,
                                const u64 *weights, const u64 *constants, size_t sums, size_t n, size_t begin,
                                size_t end, u64 *out, size_t between) {
    u64 mask[PSM_TILE], space[PSM_TILE], reached[PSM_TILE];
    u64 mine = 0 - (u64)(lead != 0);
    size_t words = (n + 63) / 64;
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        for (size_t k = 0; k < sums; k++)
            for (size_t i = 0; i < m; i++) out[k * between + at * 64 + i] = constants[k] & mine;
        for (size_t j = 0; j < count; j++) {
            const u64 *rho = psm_dealt(key, end_stream(first, rest, apart, j), at * 64, m,
                                       corrections ? corrections + j * step : NULL, space);
            psm_tile_masks(betas + j * words + at, m, w, mask);
            for (size_t i = 0; i < m; i++) reached[i] = mask[i] - (rho[i] ^ mask[i]) + ((mask[i] + 1) & mine);
            for (size_t k = 0; k < sums; k++) {
                u64 weight = weights[k * count + j], *sum = out + k * between + at * 64;
                if (weight)
                    for (size_t i = 0; i < m; i++) sum[i] += weight * reached[i];
            }
        }
    }
}
