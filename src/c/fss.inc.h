/* Function secret sharing for two holders: keys of point and comparison functions.
 *
 * A tree over the bits of the domain, top bit first.  A node has a state s of 128
 * bits, whose lowest bit is its control bit t.  Off the path to alpha both holders
 * have the same state; on it the states differ by Delta, the difference of the
 * roots, which is odd and known to nobody but the dealer.  With h = H_0(s) and the
 * correction of the level,
 *     child(x) = h ^ x s ^ t correction,    correction = h ^ h' ^ not(alpha_i) Delta
 * gives equal children off the path and children Delta apart on it: one hash a node
 * serves both children (Guo, Yang, Wang, Zhang, Xie, Liu, Zhao, "Half-tree", EUROCRYPT
 * 2023).
 *
 * A comparison adds w words at every node (Boyle et al., EUROCRYPT 2021, section 3,
 * with one mask a node and not one a child): holder b adds (-1)^b (v + t V), with
 * v = H_1(s)..., which cancels off the path; the dealer chooses V so that on the path
 * the sum so far is what is due where x leaves it here.  The last TAIL bits have no
 * tree: a leaf has w << TAIL words, (v + t V) by those bits (early termination).
 *
 * H_j(s) = AES_k(y) ^ y with y = sigma(s) ^ j times a constant and sigma(L, R) = (L ^ R, L):
 * circular correlation robust in the ideal cipher model (Guo, Katz, Wang, Yu, S&P 2020).
 * The AES key k is public and fresh for every batch of keys.
 *
 * GROUP elements go together, a state being two words in two vectors.  Rows of a key
 * in memory, each of as many words as the group has elements: for every level the
 * correction (low, high) and with comparisons V_0.., then the words of the leaf.
 */

enum { FSS_GROUP = 32, FSS_VECTORS = FSS_GROUP / PSM_LANES, FSS_TAIL = 2, FSS_WORDS = 4 };

typedef struct {
    v8 lo[FSS_VECTORS], hi[FSS_VECTORS];
} fss_state;

typedef struct {
    v8 v[FSS_VECTORS];
} fss_row;

#define FSS_EACH for (int i = 0; i < FSS_VECTORS; i++)

/* (a_0, b_0, a_2, b_2, ...) and (a_1, b_1, a_3, b_3, ...), in vectors that the target has */
#if defined(__AVX512F__) && !defined(__clang__)
#define FSS_EVEN(a, b) __builtin_shuffle(a, b, (v8){0, 8, 2, 10, 4, 12, 6, 14})
#define FSS_ODD(a, b) __builtin_shuffle(a, b, (v8){1, 9, 3, 11, 5, 13, 7, 15})
#else
typedef u64 fss_pair __attribute__((vector_size(16)));
#if defined(__clang__)
#define FSS_PAIR(a, b, i) __builtin_shufflevector(a, b, i, i + 2)
#else
#define FSS_PAIR(a, b, i) __builtin_shuffle(a, b, (fss_pair){i, i + 2})
#endif
#define FSS_ZIP(name, i)                                                                           \
    static inline v8 name(v8 a, v8 b) {                                                            \
        union {                                                                                    \
            v8 v;                                                                                  \
            fss_pair p[4];                                                                         \
        } x = {a}, y = {b};                                                                        \
        for (int j = 0; j < 4; j++) x.p[j] = FSS_PAIR(x.p[j], y.p[j], i);                          \
        return x.v;                                                                                \
    }
FSS_ZIP(FSS_EVEN, 0)
FSS_ZIP(FSS_ODD, 1)
#endif

/* all ones where bit `at` of x is set */
static inline v8 fss_bit(v8 x, unsigned at) { return (v8){0} - ((x >> at) & 1); }

/* out = H_j of every state, j = tweak of its element */
static inline __attribute__((always_inline))
void fss_hash(const aes_schedule *schedule, const fss_state *s, const fss_row *tweak, fss_state *out) {
    _Alignas(64) v8 in[2 * FSS_VECTORS], block[2 * FSS_VECTORS];

    FSS_EACH {
        v8 lo = s->hi[i], hi = s->lo[i] ^ s->hi[i];
        if (tweak) lo ^= tweak->v[i] * 0x9E3779B97F4A7C15ull;
        in[2 * i] = FSS_EVEN(lo, hi);
        in[2 * i + 1] = FSS_ODD(lo, hi);
    }
    for (size_t at = 0; at < FSS_GROUP; at += AES_BLOCKS)
        aes_batch(schedule, (const uint8_t *)in + 16 * at, (uint8_t *)block + 16 * at);
    FSS_EACH {
        v8 a = block[2 * i] ^ in[2 * i], b = block[2 * i + 1] ^ in[2 * i + 1];
        out->lo[i] = FSS_EVEN(a, b);
        out->hi[i] = FSS_ODD(a, b);
    }
}

static inline void fss_tweak(fss_row *row, u64 j) { FSS_EACH row->v[i] = (v8){0} + j; }

/* v[k] = words of H_1, H_2, ... of every state */
static inline __attribute__((always_inline))
void fss_values(const aes_schedule *schedule, const fss_state *s, unsigned words, fss_row *v) {
    for (unsigned k = 0; k < words; k += 2) {
        fss_row tweak;
        fss_state out;
        fss_tweak(&tweak, 1 + k / 2);
        fss_hash(schedule, s, &tweak, &out);
        FSS_EACH v[k].v[i] = out.lo[i];
        if (k + 1 < words) FSS_EACH v[k + 1].v[i] = out.hi[i];
    }
}

static inline void fss_load(const u64 *p, size_t m, fss_row *row) {
    if (m == FSS_GROUP) {
        memcpy(row, p, sizeof *row);
    } else {
        memset(row, 0, sizeof *row);
        memcpy(row, p, m * sizeof(u64));
    }
}

static inline void fss_store(u64 *p, size_t m, const fss_row *row) {
    if (m == FSS_GROUP) memcpy(p, row, sizeof *row);
    else memcpy(p, row, m * sizeof(u64));
}

/* Words of a key an element. */
static size_t fss_key_words(psm_fss f) {
    unsigned tail = f.bits < FSS_TAIL ? f.bits : FSS_TAIL;
    return (size_t)(f.bits - tail) * (2 + (f.less ? f.words : 0)) + ((size_t)f.words << tail);
}

/* The state of holder `rank` at the root: words of its stream, the lowest bit being its rank. */
static inline void fss_root(const psm_aes_key *key, u64 stream, unsigned rank, size_t first, size_t m,
                            fss_state *s) {
    fss_row lo, hi;
    u64 words[2 * FSS_GROUP];
    psm_prg_fill(key, stream, 2 * first, words, 2 * m);
    fss_load(words, m, &lo);
    fss_load(words + m, m, &hi);
    FSS_EACH {
        s->lo[i] = (lo.v[i] & ~(u64)1) | rank;
        s->hi[i] = hi.v[i];
    }
}

/* Dealer: the key of m elements.  in: `words` rows of the values where x < alpha (where
 * x = alpha, for a point), and as many where not. */
static inline __attribute__((always_inline))
void fss_group_deal(const aes_schedule *schedule, psm_fss f, const fss_state *root0, const fss_state *root1,
                    const fss_row *alpha, const fss_row *in, const fss_row *out, size_t m, u64 *key) {
    unsigned tail = f.bits < FSS_TAIL ? f.bits : FSS_TAIL, levels = f.bits - tail;
    fss_state s0 = *root0, s1 = *root1, delta, h0, h1;
    fss_row sum[FSS_WORDS], v0[FSS_WORDS], v1[FSS_WORDS], row;

    FSS_EACH {
        delta.lo[i] = s0.lo[i] ^ s1.lo[i];
        delta.hi[i] = s0.hi[i] ^ s1.hi[i];
    }
    memset(sum, 0, sizeof sum);
    for (unsigned level = 0; level < levels; level++) {
        unsigned at = f.bits - 1 - level;
        fss_row lo, hi;
        fss_hash(schedule, &s0, NULL, &h0);
        fss_hash(schedule, &s1, NULL, &h1);
        FSS_EACH {
            v8 right = fss_bit(alpha->v[i], at);
            lo.v[i] = h0.lo[i] ^ h1.lo[i] ^ (delta.lo[i] & ~right);
            hi.v[i] = h0.hi[i] ^ h1.hi[i] ^ (delta.hi[i] & ~right);
        }
        fss_store(key, m, &lo);
        fss_store(key + m, m, &hi);
        key += 2 * m;
        if (f.less) {
            fss_values(schedule, &s0, f.words, v0);
            fss_values(schedule, &s1, f.words, v1);
            for (unsigned k = 0; k < f.words; k++, key += m) {
                FSS_EACH {
                    v8 right = fss_bit(alpha->v[i], at), minus = fss_bit(s1.lo[i], 0);
                    v8 due = (in[k].v[i] & right) | (out[k].v[i] & ~right);
                    v8 value = due - sum[k].v[i] - v0[k].v[i] + v1[k].v[i];
                    row.v[i] = (value ^ minus) - minus;
                    sum[k].v[i] = due;
                }
                fss_store(key, m, &row);
            }
        }
        FSS_EACH {
            v8 right = fss_bit(alpha->v[i], at), t = fss_bit(s0.lo[i], 0);
            s0.lo[i] = h0.lo[i] ^ (s0.lo[i] & right) ^ (lo.v[i] & t);
            s0.hi[i] = h0.hi[i] ^ (s0.hi[i] & right) ^ (hi.v[i] & t);
            s1.lo[i] = s0.lo[i] ^ delta.lo[i];
            s1.hi[i] = s0.hi[i] ^ delta.hi[i];
        }
    }
    for (unsigned k = 0; k < f.words; k++)
        for (unsigned pair = 0; pair < 1u << tail; pair += 2) {
            fss_tweak(&row, 1 + (((u64)k << FSS_TAIL) + pair) / 2);
            fss_hash(schedule, &s0, &row, &h0);
            fss_hash(schedule, &s1, &row, &h1);
            for (unsigned d = pair; d < pair + 2; d++, key += m) {
                FSS_EACH {
                    v8 last = alpha->v[i] & ((1u << tail) - 1), minus = fss_bit(s1.lo[i], 0);
                    v8 here = f.less ? fss_bit(d - last, 63) : fss_bit((last ^ d) - 1, 63);
                    v8 due = (in[k].v[i] & here) | (out[k].v[i] & ~here);
                    v8 value = due - sum[k].v[i] + (d & 1 ? h1.hi[i] - h0.hi[i] : h1.lo[i] - h0.lo[i]);
                    row.v[i] = (value ^ minus) - minus;
                }
                fss_store(key, m, &row);
            }
        }
}

/* Holder `rank`: its shares of the values at the public points x, `words` rows. */
static inline __attribute__((always_inline))
void fss_group_eval(const aes_schedule *schedule, psm_fss f, unsigned rank, const fss_state *root,
                    const fss_row *x, size_t m, const u64 *key, fss_row *sum) {
    unsigned tail = f.bits < FSS_TAIL ? f.bits : FSS_TAIL, levels = f.bits - tail;
    v8 minus = (v8){0} - (u64)rank;
    fss_state s = *root, h;
    fss_row v[FSS_WORDS], row, lo, hi;

    memset(sum, 0, f.words * sizeof *sum);
    for (unsigned level = 0; level < levels; level++) {
        unsigned at = f.bits - 1 - level;
        fss_hash(schedule, &s, NULL, &h);
        fss_load(key, m, &lo);
        fss_load(key + m, m, &hi);
        key += 2 * m;
        if (f.less) {
            fss_values(schedule, &s, f.words, v);
            for (unsigned k = 0; k < f.words; k++, key += m) {
                fss_load(key, m, &row);
                FSS_EACH sum[k].v[i] += v[k].v[i] + (row.v[i] & fss_bit(s.lo[i], 0));
            }
        }
        FSS_EACH {
            v8 right = fss_bit(x->v[i], at), t = fss_bit(s.lo[i], 0);
            s.lo[i] = h.lo[i] ^ (s.lo[i] & right) ^ (lo.v[i] & t);
            s.hi[i] = h.hi[i] ^ (s.hi[i] & right) ^ (hi.v[i] & t);
        }
    }
    for (unsigned k = 0; k < f.words; k++, key += m << tail) {
        FSS_EACH {
            v8 last = x->v[i] & ((1u << tail) - 1);
            lo.v[i] = ((u64)k << FSS_TAIL) / 2 + 1 + (last >> 1);
        }
        fss_hash(schedule, &s, &lo, &h);
        memset(&row, 0, sizeof row);
        for (unsigned d = 0; d < 1u << tail; d++) {
            fss_load(key + d * m, m, &hi);
            FSS_EACH {
                v8 last = x->v[i] & ((1u << tail) - 1);
                row.v[i] |= hi.v[i] & fss_bit((last ^ d) - 1, 63);
            }
        }
        FSS_EACH {
            v8 odd = fss_bit(x->v[i], 0), value = (h.hi[i] & odd) | (h.lo[i] & ~odd);
            value += sum[k].v[i] + (row.v[i] & fss_bit(s.lo[i], 0));
            sum[k].v[i] = (value ^ minus) - minus;
        }
    }
}

/* Groups of [begin, end) within the elements [first, last) that a key is for; `of` is where
 * a group's part of the key begins, in elements. */
#define FSS_GROUPS                                                                                 \
    for (size_t at = begin, m, of; at < end && (m = last - at < FSS_GROUP ? last - at : FSS_GROUP, \
                                                of = at - first, 1);                               \
         at += FSS_GROUP)

static void psm_fss_deal(const psm_aes_key *keys, u64 stream, psm_fss f, const psm_aes_key *hash,
                         const u64 *alpha, const u64 *in, const u64 *out, size_t n, size_t first,
                         size_t last, size_t begin, size_t end, u64 *key) {
    size_t size = fss_key_words(f);
    aes_schedule schedule;
    aes_load(hash, &schedule);
    FSS_GROUPS {
        fss_state root0, root1;
        fss_row a, less[FSS_WORDS], other[FSS_WORDS];
        fss_root(&keys[0], stream, 0, at, m, &root0);
        fss_root(&keys[1], stream, 1, at, m, &root1);
        fss_load(alpha + at, m, &a);
        for (unsigned k = 0; k < f.words; k++) {
            fss_load(in + k * n + at, m, &less[k]);
            fss_load(out + k * n + at, m, &other[k]);
        }
        fss_group_deal(&schedule, f, &root0, &root1, &a, less, other, m, key + size * of);
    }
}

static void psm_fss_eval(const psm_aes_key *key, u64 stream, psm_fss f, unsigned rank,
                         const psm_aes_key *hash, const u64 *dealt, const u64 *x, u64 shift, size_t n,
                         size_t first, size_t last, size_t begin, size_t end, u64 *out) {
    size_t size = fss_key_words(f);
    aes_schedule schedule;
    aes_load(hash, &schedule);
    FSS_GROUPS {
        fss_state root;
        fss_row points, values[FSS_WORDS];
        fss_root(key, stream, rank, at, m, &root);
        fss_load(x + at, m, &points);
        FSS_EACH points.v[i] -= shift;
        fss_group_eval(&schedule, f, rank, &root, &points, m, dealt + size * of, values);
        for (unsigned k = 0; k < f.words; k++) fss_store(out + k * n + at, m, &values[k]);
    }
}
