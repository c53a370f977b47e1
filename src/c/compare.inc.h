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
 * Each stream or message is a sequence of tiles, each of `planes` rows of w words, 8 but in the last tile,
 * which is worked on with 8 as well (psm_spread).
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

/* Circuits are small loops of constant bounds wherever they are called, so that their arrays live in registers. */
#define CIRCUIT static inline __attribute__((always_inline))

/* A polynomial in four bits by its coefficients: p[s] belongs to the product of
 * the bits in s.  Substituting known ^ unknown for bit i halves it. */
CIRCUIT void fold(vreg *p, int bit, vreg known) {
    PSM_UNROLL for (int s = 0; s < 16; s++)
        if (!(s & (1 << bit))) p[s] = (p[s] & known) ^ p[s | (1 << bit)];
}

/* all products of the four bits */
CIRCUIT void monomials(const vreg bits[4], vreg p[16]) {
    PSM_UNROLL for (int i = 0; i < 4; i++)
        PSM_UNROLL for (int s = 0; s < (1 << i); s++) p[s | (1 << i)] = s ? p[s] & bits[i] : bits[i];
}

/* lt and eq of a chunk, linear in the shared monomials m of its bits of r.
 * n = not c.  A chunk of three bits leaves out bit 0.  g[s] is lt of the bits so
 * far, times the product s of bits above them. */
CIRCUIT void chunk(const vreg m[16], const vreg n[4], int lowest, vreg one, vreg *lt, vreg *eq) {
    vreg g[16], p[16];
    PSM_UNROLL for (int i = lowest; i < 4; i++)
        PSM_UNROLL for (int s = 0, step = 1 << i; s < 16; s += 2 * step) {
            vreg here = n[i] & m[s | step];
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
    vreg eq[4], lt[3];
} node_bits;

CIRCUIT const u64 *node_read(const u64 *p, int with_eq, node_bits *x) {
    PSM_UNROLL for (int i = 3; i >= !with_eq; i--, p += PSM_LANES) x->eq[i] = psm_get(p);
    PSM_UNROLL for (int i = 2; i >= 0; i--, p += PSM_LANES) x->lt[i] = psm_get(p);
    return p;
}

/* out = the bits under the masks */
CIRCUIT u64 *node_write(u64 *p, int with_eq, const node_bits *x, const node_bits *mask) {
    PSM_UNROLL for (int i = 3; i >= !with_eq; i--, p += PSM_LANES) psm_put(p, x->eq[i] ^ mask->eq[i]);
    PSM_UNROLL for (int i = 2; i >= 0; i--, p += PSM_LANES) psm_put(p, x->lt[i] ^ mask->lt[i]);
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
CIRCUIT const u64 *node(const node_bits *d, const node_bits *mask, const u64 *p, int with_eq, vreg one, vreg top,
                        vreg *lt, vreg *eq) {
    vreg a[16], q[3][16], t[16];
    a[0] = one;
    PSM_UNROLL for (int i = !with_eq; i < 4; i++) a[1 << i] = mask->eq[i];
#define READ(plane) (plane = psm_get(p), p += PSM_LANES)
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
CIRCUIT u64 *node_products(const node_bits *mask, int with_eq, u64 *p) {
    vreg a[16], q[3][16], e[4];
    PSM_UNROLL for (int i = 0; i < 4; i++) e[i] = i || with_eq ? mask->eq[i] : (vreg){0};
    monomials(e, a);
    PSM_UNROLL for (int i = 0; i < 3; i++)
        PSM_UNROLL for (int s = 2 << i; s < 16; s += 2 << i) q[i][s] = a[s] & mask->lt[i];
#define WRITE(plane) (psm_put(p, plane), p += PSM_LANES)
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

/* Shares of one party for a tile, eight words a plane. */
static inline const u64 *planes_of(const psm_aes_key *key, u64 stream, size_t at, size_t planes, size_t w,
                                   const u64 *corrections, u64 *space) {
    return psm_spread(material(key, stream, at, planes, w, corrections, space), planes, w, space);
}

/* The words of all holders' masks for a tile, eight words a plane. */
static const u64 *masks_of(const psm_aes_key *keys, size_t holders, u64 stream, size_t at, size_t planes, size_t w,
                           u64 *space) {
    memset(space, 0, planes * w * sizeof(u64));
    streams_xor(keys, holders, stream, at * planes, space, planes * w);
    return psm_spread(space, planes, w, space);
}

/* What the dealer found for a tile, eight words a plane, becomes the last holder's corrections. */
static void corrections_of(const psm_aes_key *keys, size_t holders, u64 stream, size_t at, size_t planes, size_t w,
                           const u64 *found, u64 *out) {
    psm_close(found, planes, w, out + at * planes);
    streams_xor(keys, holders - 1, stream, at * planes, out + at * planes, planes * w);
}

/* The parts of a row that fill a register each; of one of w words. */
#define EACH_PART(o, w) for (size_t o = 0; o < (w); o += PSM_REGISTER)

/* The monomials of the chunks of r, whose bits are `bits` */
CIRCUIT void deal_chunks(const u64 *bits, int first, u64 *out) {
    vreg p[16];
    for (int j = 4 * first; j < CHUNKS; j++) {
        int top = j == CHUNKS - 1;
        vreg four[4] = {{0}};
        PSM_UNROLL for (int i = 0; i < 4; i++)
            if (i >= top) four[i] = psm_get(bits + PSM_LANES * (4 * j + i - top - 16 * first));
        monomials(four, p);
        for (int s = 1 + top; s < 16; s += 1 + top, out += PSM_LANES) psm_put(out, p[s]);
    }
    psm_put(out, psm_get(bits + PSM_LANES * (63 - 16 * first)));
}

/* The dealer's corrections for tiles [begin, end) words: chunks (unless NULL), nodes, root.
 * masks: r, where it is not a stream of its own but (a difference of several), or NULL. */
static void psm_compare_deal(const psm_aes_key *keys, size_t holders, u64 base, int nodes, const u64 *masks,
                             size_t n, size_t begin, size_t end, u64 *chunks, u64 *node, u64 *root) {
    int first = NODES - nodes;
    u64 r[PSM_TILE], bits[PSM_TILE], buffer[NODE_MASKS(NODES) * PSM_LANES], space[CHUNK_PLANES(NODES) * PSM_LANES];
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        node_bits mask = {{{0}}, {{0}}};
        if (chunks) {
            if (!masks) psm_streams_sum(keys, holders, base + S_R, at * 64, r, m);
            psm_planes(masks ? masks + at * 64 : r, m, w, 0, bits);
            u64 *out = psm_spread_out(chunks + at * CHUNK_PLANES(nodes), w, space);
            EACH_PART(o, w) deal_chunks(bits + o, first, out + o);
            corrections_of(keys, holders, base + S_CHUNKS, at, CHUNK_PLANES(nodes), w, out, chunks);
        }

        const u64 *in = masks_of(keys, holders, base + S_NODE_MASKS, at, NODE_MASKS(nodes), w, buffer);
        u64 *out = psm_spread_out(node + at * NODE_PLANES(nodes), w, space);
        EACH_PART(o, w) {
            const u64 *from = in + o;
            u64 *to = out + o;
            for (int j = first; j < NODES; j++) {
                from = node_read(from, j > first, &mask);
                to = j > first ? node_products(&mask, 1, to) : node_products(&mask, 0, to);
            }
        }
        corrections_of(keys, holders, base + S_NODES, at, NODE_PLANES(nodes), w, out, node);

        if (nodes == 1) continue;
        in = masks_of(keys, holders, base + S_ROOT_MASKS, at, ROOT_MASKS, w, buffer);
        out = psm_spread_out(root + at * ROOT_PLANES, w, space);
        EACH_PART(o, w) {
            node_read(in + o, 0, &mask);
            node_products(&mask, 0, out + o);
        }
        corrections_of(keys, holders, base + S_ROOT, at, ROOT_PLANES, w, out, root);
    }
}

/* lt and eq of a chunk from the planes of its monomials, and the bits of c that are its own. */
CIRCUIT const u64 *chunk_read(const u64 *in, const u64 *bits, int top, vreg one, vreg *lt, vreg *eq) {
    vreg p[16], n[4];
    PSM_UNROLL for (int i = 0; i < 4; i++)
        if (i >= top) n[i] = ~psm_get(bits + PSM_LANES * (i - top));
    PSM_UNROLL for (int s = 1; s < 16; s++)
        if (!(s & top)) p[s] = psm_get(in), in += PSM_LANES;
    chunk(p, n, top, one, lt, eq);
    return in;
}

/* The part of a tile in a register: `state` and `message` from the planes of c, monomials and masks. */
CIRCUIT void chunks_part(const u64 *bits, const u64 *in, const u64 *masks, int first, vreg one, u64 *state,
                         u64 *message) {
    vreg lt[4], eq[4];
    for (int j = first; j < NODES; j++, state += PSM_LANES) {
        node_bits x, mask = {{{0}}, {{0}}};
        PSM_UNROLL for (int i = 0; i < 3; i++, bits += 4 * PSM_LANES)
            in = chunk_read(in, bits, 0, one, &lt[i], &eq[i]);
        in = j < NODES - 1 ? chunk_read(in, bits, 0, one, &lt[3], &eq[3]) : chunk_read(in, bits, 1, one, &lt[3], &eq[3]);
        bits += 4 * PSM_LANES;
        memcpy(x.eq, eq, sizeof x.eq);
        memcpy(x.lt, lt, sizeof x.lt);
        masks = node_read(masks, j > first, &mask);
        message = node_write(message, j > first, &x, &mask);
        psm_put(state, lt[3]);
    }
    psm_put(state, psm_get(in) ^ (psm_get(bits - PSM_LANES) & one));
}

/* Round 1: from c - offset to the masked inputs of the nodes, with the chunk monomials (and
 * `corrections`) of the comparison from `known`.  `state` keeps, a tile, lt of
 * the four top chunks and the share of c_63 ^ r_63. */
static void psm_compare_chunks(const psm_aes_key *key, u64 base, u64 known, int nodes, int lead,
                               const u64 *corrections, const u64 *c, u64 offset, size_t n, size_t begin, size_t end,
                               u64 *state, u64 *message) {
    int first = NODES - nodes;
    u64 bits[PSM_TILE], space[CHUNK_PLANES(NODES) * PSM_LANES], masks[NODE_MASKS(NODES) * PSM_LANES];
    u64 last[(NODES + 1) * PSM_LANES], sent[NODE_MASKS(NODES) * PSM_LANES];
    vreg one = (vreg){0} - (u64)(lead != 0);
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64, rows = (size_t)nodes + 1;
        psm_planes(c + at * 64, m, w, offset, bits);
        const u64 *in = planes_of(key, known + S_CHUNKS, at, CHUNK_PLANES(nodes), w, corrections, space);
        const u64 *mask = planes_of(key, base + S_NODE_MASKS, at, NODE_MASKS(nodes), w, NULL, masks);
        u64 *keep = psm_spread_out(state + at * rows, w, last);
        u64 *out = psm_spread_out(message + at * NODE_MASKS(nodes), w, sent);
        EACH_PART(o, w) chunks_part(bits + o, in + o, mask + o, first, one, keep + o, out + o);
        psm_close(keep, rows, w, state + at * rows);
        psm_close(out, NODE_MASKS(nodes), w, message + at * NODE_MASKS(nodes));
    }
}

/* Opened nodes: the share of c_63 ^ r_63 ^ lt of the top one, and the inputs of the root. */
CIRCUIT vreg nodes_part(const u64 *opened, const u64 *masks, const u64 *product, const u64 *keep, int first, vreg one,
                        node_bits *root) {
    vreg lt[NODES] = {{0}}, eq[NODES] = {{0}}, unused;
    PSM_UNROLL for (int j = 0; j < NODES; j++) {
        node_bits x, mask;
        if (j < first) continue;
        opened = node_read(opened, j > first, &x);
        masks = node_read(masks, j > first, &mask);
        product = j > first ? node(&x, &mask, product, 1, one, psm_get(keep), &lt[j], &eq[j])
                            : node(&x, &mask, product, 0, one, psm_get(keep), &lt[j], &unused);
        keep += PSM_LANES;
    }
    *root = (node_bits){{eq[1], eq[1], eq[2], eq[3]}, {lt[0], lt[1], lt[2]}};
    return psm_get(keep) ^ lt[3];
}

/* Round 2: from the opened inputs of the nodes to those of the root.  `state`
 * becomes one row a tile: lt of the top node ^ c_63 ^ r_63.  Of one node, that is the
 * sign, and goes out under rho. */
static void psm_compare_nodes(const psm_aes_key *key, u64 base, int nodes, int lead, const u64 *corrections,
                              const u64 *opened, size_t begin, size_t end, const u64 *state,
                              u64 *sign, u64 *message) {
    int first = NODES - nodes;
    u64 space[NODE_PLANES(NODES) * PSM_LANES], masks[NODE_MASKS(NODES) * PSM_LANES];
    u64 given[NODE_MASKS(NODES) * PSM_LANES], kept[(NODES + 1) * PSM_LANES], rest[PSM_LANES];
    u64 root_masks[ROOT_MASKS * PSM_LANES] = {0}, sent[ROOT_MASKS * PSM_LANES];
    vreg one = (vreg){0} - (u64)(lead != 0);
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), rows = (size_t)nodes + 1;
        const u64 *product = planes_of(key, base + S_NODES, at, NODE_PLANES(nodes), w, corrections, space);
        const u64 *mask = planes_of(key, base + S_NODE_MASKS, at, NODE_MASKS(nodes), w, NULL, masks);
        const u64 *d = psm_spread(opened + at * NODE_MASKS(nodes), NODE_MASKS(nodes), w, given);
        const u64 *keep = psm_spread(state + at * rows, rows, w, kept), *under = root_masks;
        u64 *out = psm_spread_out(message + at * ROOT_MASKS, w, sent);
        if (nodes > 1) under = planes_of(key, base + S_ROOT_MASKS, at, ROOT_MASKS, w, NULL, root_masks);
        EACH_PART(o, w) {
            node_bits x, m;
            psm_put(rest + o, nodes_part(d + o, mask + o, product + o, keep + o, first, one, &x));
            node_read(under + o, 0, &m);
            if (nodes > 1) node_write(out + o, 0, &x, &m);
        }
        if (nodes == 1) {
            psm_prg_xor(key, base + S_RHO, at, rest, message + at, w);
            continue;
        }
        memcpy(sign + at, rest, w * sizeof(u64));
        psm_close(out, ROOT_MASKS, w, message + at * ROOT_MASKS);
    }
}

/* Round 3: from the opened inputs of the root to the sign bit under rho. */
static void psm_compare_root(const psm_aes_key *key, u64 base, int lead, const u64 *corrections,
                             const u64 *opened, size_t begin, size_t end, const u64 *sign,
                             u64 *message) {
    u64 space[ROOT_PLANES * PSM_LANES], masks[ROOT_MASKS * PSM_LANES], given[ROOT_MASKS * PSM_LANES];
    u64 kept[PSM_LANES], less[PSM_LANES];
    vreg one = (vreg){0} - (u64)(lead != 0);
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end);
        const u64 *shares = planes_of(key, base + S_ROOT, at, ROOT_PLANES, w, corrections, space);
        const u64 *under = planes_of(key, base + S_ROOT_MASKS, at, ROOT_MASKS, w, NULL, masks);
        const u64 *d = psm_spread(opened + at * ROOT_MASKS, ROOT_MASKS, w, given);
        const u64 *top = psm_spread(sign + at, 1, w, kept);
        EACH_PART(o, w) {
            vreg lt, eq;
            node_bits x, mask;
            node_read(d + o, 0, &x);
            node_read(under + o, 0, &mask);
            node(&x, &mask, shares + o, 0, one, psm_get(top + o), &lt, &eq);
            psm_put(less + o, lt);
        }
        psm_prg_xor(key, base + S_RHO, at, less, message + at, w);
    }
}
