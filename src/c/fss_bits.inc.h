/* Function secret sharing of bits: whether c < r, or c = r, for a public c and a dealt r.
 *
 * The tree of fss.inc.h without words of value.  With alpha = r, the lowest bit of a node's
 * state is a share by exclusive or of whether alpha is below that node, so
 *     [alpha <= c] = the sum, over the steps of c to the right, of that bit of the left
 *                    child, and what is due at the leaf
 * costs a comparison the hashes of its path alone (the parity of a prefix: Storrier, Vadapalli,
 * Lyons, Henry, "Grotto", CCS 2023, section 4).  A leaf is for the last BELOW bits: the
 * bits H_1(s) ^ t correction, of which c picks one (early termination).
 *
 * A state is one block, as AES takes it; FSS_GROUP elements go together.  A key: for every
 * group, for every level and then for the leaf, a block an element; then, packed as in
 * bits.inc.h, a bit an element: a constant, under the roots' lowest bits.
 */

enum { BITS_BELOW = 7 };

typedef u64 bits_vector __attribute__((vector_size(AES_VECTOR)));
typedef int64_t bits_signed __attribute__((vector_size(AES_VECTOR)));

enum {
    BITS_VECTORS = 16 * FSS_GROUP / AES_VECTOR, /* of a group */
    BITS_BATCH = 16 * AES_BLOCKS / AES_VECTOR,  /* of a batch of AES */
    BITS_TILE = 64 * PSM_LANES,                 /* elements */
};

typedef struct {
    bits_vector v[BITS_VECTORS];
} bits_blocks;

#if AES_VECTOR == 64
#define BITS_SWAP 1, 0, 3, 2, 5, 4, 7, 6
#define BITS_LOW 0, 0, 2, 2, 4, 4, 6, 6
#define BITS_UPPER {0, -(u64)1, 0, -(u64)1, 0, -(u64)1, 0, -(u64)1}
#define BITS_FIRST {1, 0, 1, 0, 1, 0, 1, 0}
#elif AES_VECTOR == 32
#define BITS_SWAP 1, 0, 3, 2
#define BITS_LOW 0, 0, 2, 2
#define BITS_UPPER {0, -(u64)1, 0, -(u64)1}
#define BITS_FIRST {1, 0, 1, 0}
#else
#define BITS_SWAP 1, 0
#define BITS_LOW 0, 0
#define BITS_UPPER {0, -(u64)1}
#define BITS_FIRST {1, 0}
#endif
#ifdef __clang__
#define BITS_SHUFFLE(x, ...) __builtin_shufflevector(x, x, __VA_ARGS__)
#else
#define BITS_SHUFFLE(x, ...) __builtin_shuffle(x, (bits_vector){__VA_ARGS__})
#endif
#define BITS_EACH PSM_UNROLL for (int i = 0; i < BITS_BATCH; i++)

static inline bits_vector bits_sigma(bits_vector s) {
    return BITS_SHUFFLE(s, BITS_SWAP) ^ (s & (bits_vector)BITS_UPPER);
}

/* all ones where the lowest bit of the block is set */
static inline bits_vector bits_control(bits_vector s) {
    return (bits_vector){0} - (BITS_SHUFFLE(s, BITS_LOW) & 1);
}

/* all ones where the highest bit of the word is set */
static inline bits_vector bits_top(bits_vector x) { return (bits_vector)((bits_signed)x >> 63); }

static inline size_t bits_key_words(unsigned bits) { return 2 * (bits - BITS_BELOW + 1); }

/* m elements, each in both words of a block, the highest of `bits` bits first */
static inline void bits_spread(const u64 *x, size_t m, unsigned bits, bits_blocks *out) {
    u64 words[2 * FSS_GROUP] = {0};
    for (size_t i = 0; i < m; i++) words[2 * i] = words[2 * i + 1] = x[i] << (64 - bits);
    memcpy(out, words, sizeof words);
}

/* The roots of m elements, the lowest bit being the holder's rank; own[i] = the bit that was there. */
static inline void bits_root(const psm_aes_key *key, u64 stream, unsigned rank, size_t first, size_t m,
                             bits_blocks *s, u64 *own) {
    u64 words[2 * FSS_GROUP] = {0};
    psm_prg_fill(key, stream, 2 * first, words, 2 * m);
    for (size_t i = 0; i < m; i++) {
        own[i] = words[2 * i] & 1;
        words[2 * i] = (words[2 * i] & ~(u64)1) | rank;
    }
    memcpy(s, words, sizeof words);
}

/* A row of a key for m elements: where it is, or padded in `space`. */
static inline const u64 *bits_row(const u64 *row, size_t m, u64 space[2 * FSS_GROUP]) {
    if (m == FSS_GROUP) return row;
    memcpy(space, row, m * 2 * sizeof(u64));
    return space;
}

static inline bits_vector bits_load(const u64 *row, int i) {
    bits_vector v;
    memcpy(&v, row + i * (AES_VECTOR / 8), sizeof v);
    return v;
}

static inline void bits_store(u64 *row, int i, bits_vector v) { memcpy(row + i * (AES_VECTOR / 8), &v, sizeof v); }

/* which of the points j of a leaf have alpha <= j (less) or alpha = j */
static inline void bits_due(u64 alpha, int less, u64 *low, u64 *high) {
    u64 above = 0 - (alpha >> 6 & 1), one = (u64)1 << (alpha & 63), from = 0 - one;
    *low = (less ? from : one) & ~above;
    *high = less ? (from & above) | ~above : one & above;
}

/* Dealer: the levels and the leaf of m elements with these roots. */
static inline __attribute__((always_inline))
void bits_group_deal(const aes_schedule *schedule, unsigned bits, int less, bits_blocks *s, const bits_blocks *other,
                     const u64 *alpha, size_t m, u64 *key) {
    bits_blocks delta, turned, x, due;
    u64 words[2 * FSS_GROUP] = {0}, space[2 * FSS_GROUP], *row = m == FSS_GROUP ? key : space;

    bits_spread(alpha, m, bits, &x);
    for (size_t i = 0; i < m; i++) bits_due(alpha[i], less, &words[2 * i], &words[2 * i + 1]);
    memcpy(&due, words, sizeof words);
    for (int i = 0; i < BITS_VECTORS; i++) {
        delta.v[i] = s->v[i] ^ other->v[i];
        turned.v[i] = bits_sigma(delta.v[i]);
    }
    for (unsigned level = 0; level < bits - BITS_BELOW; level++) {
        for (int at = 0; at < BITS_VECTORS; at += BITS_BATCH) {
            bits_vector y[BITS_BATCH], z[BITS_BATCH], h[BITS_BATCH];
            bits_vector *state = s->v + at, *d = delta.v + at, *u = turned.v + at, *bit = x.v + at;
            BITS_EACH y[i] = bits_sigma(state[i]);
            BITS_EACH z[i] = y[i] ^ u[i];
            aes_vectors(schedule, (const void *)y, (void *)h);
            BITS_EACH y[i] ^= h[i];
            aes_vectors(schedule, (const void *)z, (void *)h);
            BITS_EACH {
                bits_vector right = bits_top(bit[i]), correction = y[i] ^ h[i] ^ z[i] ^ (d[i] & ~right);
                state[i] = y[i] ^ (state[i] & right) ^ (correction & bits_control(state[i]));
                bit[i] += bit[i];
                bits_store(row, at + i, correction);
            }
        }
        if (row == space) memcpy(key, space, m * 2 * sizeof(u64));
        else row += 2 * m;
        key += 2 * m;
    }
    for (int at = 0; at < BITS_VECTORS; at += BITS_BATCH) {
        bits_vector y[BITS_BATCH], z[BITS_BATCH], h[BITS_BATCH];
        BITS_EACH y[i] = bits_sigma(s->v[at + i]) ^ (bits_vector)BITS_FIRST * 0x9E3779B97F4A7C15ull;
        BITS_EACH z[i] = y[i] ^ turned.v[at + i];
        aes_vectors(schedule, (const void *)y, (void *)h);
        BITS_EACH y[i] ^= h[i];
        aes_vectors(schedule, (const void *)z, (void *)h);
        BITS_EACH bits_store(row, at + i, y[i] ^ h[i] ^ z[i] ^ due.v[at + i]);
    }
    if (row == space) memcpy(key, space, m * 2 * sizeof(u64));
}

/* A holder: out[i] ^= its share of the bit at the public point x[i]. */
static inline __attribute__((always_inline))
void bits_group_eval(const aes_schedule *schedule, unsigned bits, int less, bits_blocks *s, const u64 *points, size_t m,
                     const u64 *key, u64 *out) {
    bits_blocks x, sum;
    u64 space[2 * FSS_GROUP] = {0}, total[2 * FSS_GROUP], leaf[2 * FSS_GROUP];

    memset(&sum, 0, sizeof sum);
    bits_spread(points, m, bits, &x);
    for (unsigned level = 0; level < bits - BITS_BELOW; level++, key += 2 * m) {
        const u64 *row = bits_row(key, m, space);
        for (int at = 0; at < BITS_VECTORS; at += BITS_BATCH) {
            bits_vector y[BITS_BATCH], h[BITS_BATCH];
            bits_vector *state = s->v + at, *bit = x.v + at, *parity = sum.v + at;
            BITS_EACH y[i] = bits_sigma(state[i]);
            aes_vectors(schedule, (const void *)y, (void *)h);
            BITS_EACH {
                bits_vector right = bits_top(bit[i]), correction = bits_load(row, at + i);
                bits_vector left = h[i] ^ y[i] ^ (correction & bits_control(state[i]));
                if (less) parity[i] ^= left & right;
                state[i] = left ^ (state[i] & right);
                bit[i] += bit[i];
            }
        }
    }
    const u64 *row = bits_row(key, m, space);
    for (int at = 0; at < BITS_VECTORS; at += BITS_BATCH) {
        bits_vector y[BITS_BATCH], h[BITS_BATCH];
        BITS_EACH y[i] = bits_sigma(s->v[at + i]) ^ (bits_vector)BITS_FIRST * 0x9E3779B97F4A7C15ull;
        aes_vectors(schedule, (const void *)y, (void *)h);
        BITS_EACH bits_store(leaf, at + i, y[i] ^ h[i] ^ (bits_load(row, at + i) & bits_control(s->v[at + i])));
    }
    memcpy(total, &sum, sizeof total);
    for (size_t i = 0; i < m; i++) {
        u64 above = 0 - (points[i] >> 6 & 1), word = (leaf[2 * i] & ~above) | (leaf[2 * i + 1] & above);
        out[i] ^= (total[2 * i] ^ word >> (points[i] & 63)) & 1;
    }
}

/* Groups of [begin, end) packed words within the n elements from `first` that a key is for. */
#define BITS_TILES                                                                                       \
    for (size_t tile = begin, w, count; tile < end && (w = psm_width(tile, words), 1) &&                  \
                                        (count = n - tile * 64 < w * 64 ? n - tile * 64 : w * 64, 1);     \
         tile += PSM_LANES)

/* The key for the n elements from `first` of shares of u = r_bits ^ [c < r mod 2^bits], r_bits being the bit
 * of r above (0 at 64); or (less = 0) of [c = r mod 2^bits]: r the sum of streams `mask`. */
static void psm_fss_bits_deal(const psm_aes_key *keys, u64 mask, u64 stream, unsigned bits, int less,
                              const psm_aes_key *hash, size_t first, size_t n, size_t begin, size_t end, u64 *key) {
    size_t size = bits_key_words(bits), words = (n + 63) / 64;
    aes_schedule schedule;
    aes_load(hash, &schedule);
    BITS_TILES {
        u64 constant[BITS_TILE];
        for (size_t at = 0; at < count; at += FSS_GROUP) {
            size_t m = count - at < FSS_GROUP ? count - at : FSS_GROUP, from = tile * 64 + at;
            u64 r[FSS_GROUP], own[FSS_GROUP], *other = constant + at;
            bits_blocks s0, s1;
            bits_root(&keys[0], stream, 0, first + from, m, &s0, own);
            bits_root(&keys[1], stream, 1, first + from, m, &s1, other);
            psm_streams_sum(keys, 2, mask, first + from, r, m);
            for (size_t i = 0; i < m; i++) {
                other[i] ^= own[i];
                if (less) other[i] ^= 1 ^ (bits < 64 ? r[i] >> bits & 1 : 0);
            }
            if (less) bits_group_deal(&schedule, bits, 1, &s0, &s1, r, m, key + size * from);
            else bits_group_deal(&schedule, bits, 0, &s0, &s1, r, m, key + size * from);
        }
        psm_pack_bits(constant, key + size * n + tile, count);
    }
}

/* Holder `rank`: out = packed shares of u at x - shift mod 2^bits, of the n elements of a key. */
static void psm_fss_bits_eval(const psm_aes_key *holder, u64 stream, unsigned bits, int less, unsigned rank,
                              const psm_aes_key *hash, const u64 *key, const u64 *x, u64 shift, size_t first, size_t n,
                              size_t begin, size_t end, u64 *out) {
    size_t size = bits_key_words(bits), words = (n + 63) / 64;
    aes_schedule schedule;
    aes_load(hash, &schedule);
    BITS_TILES {
        u64 share[BITS_TILE];
        for (size_t at = 0; at < count; at += FSS_GROUP) {
            size_t m = count - at < FSS_GROUP ? count - at : FSS_GROUP, from = tile * 64 + at;
            u64 point[FSS_GROUP];
            bits_blocks s;
            bits_root(holder, stream, rank, first + from, m, &s, share + at);
            for (size_t i = 0; i < m; i++) point[i] = x[first + from + i] - shift;
            if (less) bits_group_eval(&schedule, bits, 1, &s, point, m, key + size * from, share + at);
            else bits_group_eval(&schedule, bits, 0, &s, point, m, key + size * from, share + at);
        }
        psm_pack_bits(share, out + tile, count);
        if (rank == 0)
            for (size_t i = 0; i < w; i++) out[tile + i] ^= key[size * n + tile + i];
    }
}
