/* The sign bit of a shared x, bit-sliced: 512 elements to a vector operation.
 *
 * The parties open c = x + r for a dealt r whose bits they share by xor.  Then
 * bit 63 of x = c - r is  c_63 ^ r_63 ^ [c mod 2^63 < r mod 2^63],  and the last
 * term is a tree over the pairs (lt, eq) of groups of bits:
 *     lt = lt_3 ^ eq_3 (lt_2 ^ eq_2 (lt_1 ^ eq_1 lt_0)),   eq = eq_3 eq_2 eq_1 eq_0.
 * A node of four costs one round: its inputs are opened under masks, and the
 * dealer shares every product of masks that the expansion needs (products of
 * many factors from dealt monomials: ABY2.0, Patra et al. 2021, section 3.1.4).
 * The lowest nodes cost none: c is public and the dealer knows r, so sharing
 * the monomials of four bits of r makes lt and eq linear.  63 bits are 16 chunks,
 * 4 nodes, 1 root: two rounds, 33 bits opened an element and party.
 *
 * Where x is known to fit in 16 * nodes bits, c and r are shifted left until their lowest
 * bits of as many are at the top: of the tree, the nodes below have nothing to say, and
 * nothing of them is dealt or sent.  One node needs no root.
 *
 * Signs of x - t for several public t can share one c, and with it r: the monomials of r are
 * then dealt once, for the first of them (`known` is its base), and the others are dealt those of
 * their nodes and root alone.  Nothing of the chunks is opened but under masks of the nodes, and
 * those, their products and rho are fresh for every sign.
 *
 * Each stream or message is a sequence of tiles, each of `planes` rows of w words.
 * Streams of one comparison, from `base` (1 to 8 are those of truncate.inc.h and
 * select.inc.h, which may work on the same opening): r, chunk monomials, masks of the nodes,
 * masks of the root, monomials of the nodes, monomials of the root, and rho, the
 * mask under which the sign is opened.
 */

enum { CHUNKS = 16, NODES = 4 };
enum { ROOT_MASKS = 6, ROOT_PLANES = 15 };
#define CHUNK_PLANES(nodes) (15 * (4 * (size_t)(nodes) - 1) + 7 + 1) /* top chunk: three bits; then r_63 */
#define NODE_MASKS(nodes) (7 * (size_t)(nodes) - 1)                  /* the lowest node needs no eq_0 */
#define NODE_PLANES(nodes) (22 * (size_t)(nodes) - 7)
enum { S_R = 0, S_CHUNKS = 9, S_NODE_MASKS, S_ROOT_MASKS, S_NODES, S_ROOT, S_RHO };

#include "unroll.h"

/* Circuits are small loops of constant bounds wherever they are called, so that their arrays live in registers. */
#define CIRCUIT static inline __attribute__((always_inline))

/* A polynomial in four bits by its coefficients: p[s] belongs to the product of
 * the bits in s.  Substituting known ^ unknown for bit i halves it. */
CIRCUIT void fold(v8 *p, int bit, v8 known) {
    PSM_UNROLL for (int s = 0; s < 16; s++)
        if (!(s & (1 << bit))) p[s] = (p[s] & known) ^ p[s | (1 << bit)];
}

/* all products of the four bits */
CIRCUIT void monomials(const v8 bits[4], v8 p[16]) {
    PSM_UNROLL for (int i = 0; i < 4; i++)
        PSM_UNROLL for (int s = 0; s < (1 << i); s++) p[s | (1 << i)] = s ? p[s] & bits[i] : bits[i];
}

/* lt and eq of a chunk, linear in the shared monomials m of its bits of r.
 * n = not c.  A chunk of three bits leaves out bit 0.  g[s] is lt of the bits so
 * far, times the product s of bits above them. */
CIRCUIT void chunk(const v8 m[16], const v8 n[4], int lowest, v8 one, v8 *lt, v8 *eq) {
    v8 g[16], p[16];
    PSM_UNROLL for (int i = lowest; i < 4; i++)
        PSM_UNROLL for (int s = 0, step = 1 << i; s < 16; s += 2 * step) {
            v8 here = n[i] & m[s | step];
            g[s] = i > lowest ? (g[s] & n[i]) ^ g[s | step] ^ here : here;
        }
    *lt = g[0];
    memcpy(p, m, sizeof p);
    p[0] = one;
    PSM_UNROLL for (int i = lowest; i < 4; i++) fold(p, i, n[i]);
    *eq = p[0];
}

/* Masked (or masking) bits of a node: eq_3 eq_2 eq_1 [eq_0] lt_2 lt_1 lt_0. */
typedef struct {
    v8 eq[4], lt[3];
} node_bits;

CIRCUIT const u64 *node_read(const u64 *p, size_t w, int with_eq, node_bits *x) {
    for (int i = 3; i >= !with_eq; i--, p += w) x->eq[i] = psm_load(p, w);
    for (int i = 2; i >= 0; i--, p += w) x->lt[i] = psm_load(p, w);
    return p;
}

/* out = the bits under the masks */
CIRCUIT u64 *node_write(u64 *p, size_t w, int with_eq, const node_bits *x, const node_bits *mask) {
    for (int i = 3; i >= !with_eq; i--, p += w) {
        v8 v = x->eq[i] ^ mask->eq[i];
        psm_store(p, &v, w);
    }
    for (int i = 2; i >= 0; i--, p += w) {
        v8 v = x->lt[i] ^ mask->lt[i];
        psm_store(p, &v, w);
    }
    return p;
}

static inline int several(int s) { return (s & (s - 1)) != 0; }

/* The products of masks in the order in which they are dealt: q[i][s] is
 * lt_i times the product s of eq masks above i; a[s] the product itself. */
#define FOR_NODE_PRODUCTS(with_eq, visit)                                              \
    do {                                                                               \
        PSM_UNROLL for (int s = 3; s < 16; s++)                                        \
            if (several(s) && (with_eq || !(s & 1))) visit(a[s]);                      \
        PSM_UNROLL for (int i = 2; i >= 0; i--)                                        \
            PSM_UNROLL for (int s = 2 << i; s < 16; s += 2 << i) visit(q[i][s]);       \
    } while (0)

/* One party's share of lt and eq of a node.  d: opened bits, mask: its shares of
 * the masks, p: its shares of their products, top: its share of lt_3. */
CIRCUIT const u64 *node(const node_bits *d, const node_bits *mask, const u64 *p, size_t w,
                        int with_eq, v8 one, v8 top, v8 *lt, v8 *eq) {
    v8 a[16], q[3][16], t[16];
    a[0] = one;
    PSM_UNROLL for (int i = !with_eq; i < 4; i++) a[1 << i] = mask->eq[i];
#define READ(plane) (plane = psm_load(p, w), p += w)
    FOR_NODE_PRODUCTS(with_eq, READ);
#undef READ
    *lt = top;
    PSM_UNROLL for (int i = 2; i >= 0; i--) {
        q[i][0] = mask->lt[i];
        PSM_UNROLL for (int s = 0; s < 16; s += 2 << i) t[s] = (a[s] & d->lt[i]) ^ q[i][s];
        PSM_UNROLL for (int j = i + 1; j < 4; j++)
            PSM_UNROLL for (int s = 0; s < 16; s += 2 << j) t[s] = (t[s] & d->eq[j]) ^ t[s | (1 << j)];
        *lt ^= t[0];
    }
    if (with_eq) {
        PSM_UNROLL for (int i = 0; i < 4; i++) fold(a, i, d->eq[i]);
        *eq = a[0];
    }
    return p;
}

/* products of the (whole) masks of a node, for the dealer */
CIRCUIT u64 *node_products(const node_bits *mask, size_t w, int with_eq, u64 *p) {
    v8 a[16], q[3][16], e[4];
    for (int i = 0; i < 4; i++) e[i] = i || with_eq ? mask->eq[i] : (v8){0};
    monomials(e, a);
    for (int i = 0; i < 3; i++)
        for (int s = 2 << i; s < 16; s += 2 << i) q[i][s] = a[s] & mask->lt[i];
#define WRITE(plane) (psm_store(p, &plane, w), p += w)
    FOR_NODE_PRODUCTS(with_eq, WRITE);
#undef WRITE
    return p;
}

/* x ^= every holder's words: a mask */
static void streams_xor(const psm_aes_key *keys, size_t holders, u64 stream, u64 first, u64 *x,
                        size_t n) {
    for (size_t h = 0; h < holders; h++) psm_prg_xor(&keys[h], stream, first, x, x, n);
}

/* Shares of one party for a tile: what it was sent, or its stream. */
static inline const u64 *material(const psm_aes_key *key, u64 stream, size_t at, size_t planes, size_t w,
                                  const u64 *corrections, u64 *space) {
    return psm_dealt(key, stream, at * planes, planes * w, corrections, space);
}

/* The dealer's corrections for the chunks of a tile of w words, m elements.
 * masks: r, where it is not a stream of its own but (a difference of several), or NULL. */
static void deal_chunks(const psm_aes_key *keys, size_t holders, u64 base, int nodes, const u64 *masks,
                        size_t at, size_t m, size_t w, u64 *chunks) {
    int first = NODES - nodes, shift = 16 * first;
    u64 r[PSM_TILE], *out = chunks + at * CHUNK_PLANES(nodes);
    v8 bits[64], p[16];
    if (masks)
        memcpy(r, masks + at * 64, m * sizeof(u64));
    else
        psm_streams_sum(keys, holders, base + S_R, at * 64, r, m);
    psm_rows_load(r, m, w, bits);
    for (int i = 0; i < 64; i++) bits[i] <<= shift;
    psm_transpose(bits);
    for (int j = 4 * first; j < CHUNKS; j++) {
        int top = j == CHUNKS - 1;
        v8 four[4] = {{0}};
        for (int i = top; i < 4; i++) four[i] = bits[4 * j + i - top];
        monomials(four, p);
        for (int s = 1 + top; s < 16; s += 1 + top, out += w) psm_store(out, &p[s], w);
    }
    psm_store(out, &bits[63], w);
    streams_xor(keys, holders - 1, base + S_CHUNKS, at * CHUNK_PLANES(nodes), chunks + at * CHUNK_PLANES(nodes),
                CHUNK_PLANES(nodes) * w);
}

/* The dealer's corrections for tiles [begin, end) words: chunks (unless NULL), nodes, root. */
static void psm_compare_deal(const psm_aes_key *keys, size_t holders, u64 base, int nodes, const u64 *masks,
                             size_t n, size_t begin, size_t end, u64 *chunks, u64 *node, u64 *root) {
    int first = NODES - nodes;
    u64 buffer[(NODE_MASKS(NODES) + ROOT_MASKS) * PSM_LANES];
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        if (chunks) deal_chunks(keys, holders, base, nodes, masks, at, m, w, chunks);

        node_bits mask;
        memset(buffer, 0, sizeof buffer);
        streams_xor(keys, holders, base + S_NODE_MASKS, at * NODE_MASKS(nodes), buffer, NODE_MASKS(nodes) * w);
        const u64 *in = buffer;
        u64 *out = node + at * NODE_PLANES(nodes);
        for (int j = first; j < NODES; j++) {
            in = node_read(in, w, j > first, &mask);
            out = node_products(&mask, w, j > first, out);
        }
        streams_xor(keys, holders - 1, base + S_NODES, at * NODE_PLANES(nodes), node + at * NODE_PLANES(nodes),
                    NODE_PLANES(nodes) * w);

        if (nodes == 1) continue;
        memset(buffer, 0, sizeof buffer);
        streams_xor(keys, holders, base + S_ROOT_MASKS, at * ROOT_MASKS, buffer, ROOT_MASKS * w);
        node_read(buffer, w, 0, &mask);
        node_products(&mask, w, 0, root + at * ROOT_PLANES);
        streams_xor(keys, holders - 1, base + S_ROOT, at * ROOT_PLANES, root + at * ROOT_PLANES,
                    ROOT_PLANES * w);
    }
}

/* Round 1: from c - offset to the masked inputs of the nodes, with the chunk monomials (and
 * `corrections`) of the comparison from `known`.  `state` keeps, a tile, lt of
 * the four top chunks and the share of c_63 ^ r_63. */
static void psm_compare_chunks(const psm_aes_key *key, u64 base, u64 known, int nodes, int lead,
                               const u64 *corrections, const u64 *c, u64 offset, size_t n, size_t begin, size_t end,
                               u64 *state, u64 *message) {
    int first = NODES - nodes, shift = 16 * first;
    u64 space[CHUNK_PLANES(NODES) * PSM_LANES], masks[NODE_MASKS(NODES) * PSM_LANES];
    v8 one = (v8){0} - (u64)(lead != 0);
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        v8 bits[64], p[16], lt[CHUNKS], eq[CHUNKS];
        psm_rows_load(c + at * 64, m, w, bits);
        for (int i = 0; i < 64; i++) bits[i] = (bits[i] - offset) << shift;
        psm_transpose(bits);
        const u64 *in = material(key, known + S_CHUNKS, at, CHUNK_PLANES(nodes), w, corrections, space);
        material(key, base + S_NODE_MASKS, at, NODE_MASKS(nodes), w, NULL, masks);
        for (int j = 4 * first; j < CHUNKS; j++) {
            int top = j == CHUNKS - 1;
            v8 n4[4];
            for (int i = top; i < 4; i++) n4[i] = ~bits[4 * j + i - top];
            if (top) {
                for (int s = 2; s < 16; s += 2, in += w) p[s] = psm_load(in, w);
                chunk(p, n4, 1, one, &lt[j], &eq[j]);
            } else {
                for (int s = 1; s < 16; s++, in += w) p[s] = psm_load(in, w);
                chunk(p, n4, 0, one, &lt[j], &eq[j]);
            }
        }
        v8 sign = psm_load(in, w) ^ (bits[63] & one);
        u64 *keep = state + at * (size_t)(nodes + 1), *out = message + at * NODE_MASKS(nodes);
        in = masks;
        for (int j = first; j < NODES; j++, keep += w) {
            node_bits x, mask;
            memcpy(x.eq, eq + 4 * j, sizeof x.eq);
            memcpy(x.lt, lt + 4 * j, sizeof x.lt);
            in = node_read(in, w, j > first, &mask);
            out = node_write(out, w, j > first, &x, &mask);
            psm_store(keep, &lt[4 * j + 3], w);
        }
        psm_store(keep, &sign, w);
    }
}

/* Round 2: from the opened inputs of the nodes to those of the root.  `state`
 * becomes one row a tile: lt of the top node ^ c_63 ^ r_63.  Of one node, that is the
 * sign, and goes out under rho. */
static void psm_compare_nodes(const psm_aes_key *key, u64 base, int nodes, int lead, const u64 *corrections,
                              const u64 *opened, size_t begin, size_t end, const u64 *state,
                              u64 *sign, u64 *message) {
    int first = NODES - nodes;
    u64 space[NODE_PLANES(NODES) * PSM_LANES], masks[NODE_MASKS(NODES) * PSM_LANES];
    v8 one = (v8){0} - (u64)(lead != 0);
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end);
        v8 lt[NODES] = {{0}}, eq[NODES] = {{0}}, unused;
        const u64 *product = material(key, base + S_NODES, at, NODE_PLANES(nodes), w, corrections, space);
        material(key, base + S_NODE_MASKS, at, NODE_MASKS(nodes), w, NULL, masks);
        const u64 *in = masks, *d = opened + at * NODE_MASKS(nodes);
        const u64 *keep = state + at * (size_t)(nodes + 1);
        for (int j = first; j < NODES; j++, keep += w) {
            node_bits x, mask;
            d = node_read(d, w, j > first, &x);
            in = node_read(in, w, j > first, &mask);
            product = node(&x, &mask, product, w, j > first, one, psm_load(keep, w), &lt[j],
                           j > first ? &eq[j] : &unused);
        }
        v8 rest = psm_load(keep, w) ^ lt[3];
        if (nodes == 1) {
            psm_store(message + at, &rest, w);
            psm_prg_xor(key, base + S_RHO, at, message + at, message + at, w);
            continue;
        }
        psm_store(sign + at, &rest, w);
        node_bits x = {{eq[1], eq[1], eq[2], eq[3]}, {lt[0], lt[1], lt[2]}}, mask;
        material(key, base + S_ROOT_MASKS, at, ROOT_MASKS, w, NULL, masks);
        node_read(masks, w, 0, &mask);
        node_write(message + at * ROOT_MASKS, w, 0, &x, &mask);
    }
}

/* Round 3: from the opened inputs of the root to the sign bit under rho. */
static void psm_compare_root(const psm_aes_key *key, u64 base, int lead, const u64 *corrections,
                             const u64 *opened, size_t begin, size_t end, const u64 *sign,
                             u64 *message) {
    u64 space[ROOT_PLANES * PSM_LANES], masks[ROOT_MASKS * PSM_LANES];
    v8 one = (v8){0} - (u64)(lead != 0);
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end);
        v8 lt, eq;
        node_bits x, mask;
        const u64 *shares = material(key, base + S_ROOT, at, ROOT_PLANES, w, corrections, space);
        material(key, base + S_ROOT_MASKS, at, ROOT_MASKS, w, NULL, masks);
        node_read(opened + at * ROOT_MASKS, w, 0, &x);
        node_read(masks, w, 0, &mask);
        node(&x, &mask, shares, w, 0, one, psm_load(sign + at, w), &lt, &eq);
        psm_store(message + at, &lt, w);
        psm_prg_xor(key, base + S_RHO, at, message + at, message + at, w);
    }
}
