/* SecureNN's comparison over Z_67 (Wagh, Gupta, Chandran, PoPETs 2019, algorithm 3),
 * and arithmetic over Z_(2^64 - 1).
 *
 * Elements are taken in tiles and packed words as in bits.inc.h: a packed word stands
 * for 64 elements, and each of its 64 bits for one.  A block is what belongs to one
 * packed word: 64 rows, one a bit of the compared numbers, of 64 symbols of Z_67, one
 * an element.  Bit q of the word is byte 8 (q mod 8) + q / 8 of a row.
 *
 * On the wire a symbol takes 7 bits: of each 8 rows, the last is spread over the top
 * bits of the others, so that a block is 56 rows of 64 bytes, 7 bytes an element and
 * 8 bits.
 *
 * A block of symbols is drawn from 512 words of a stream.  256 bits are read as a
 * fraction, and 32 digits of base b <= 67 taken off it by multiplication; since
 * 67^32 < 2^194.2, they are within 2^-62 of uniform (statistical distance), the 64
 * symbols of an element within 2^-61.
 */

#include "unroll.h"

enum { SNN_P = 67, SNN_ROWS = 64, SNN_PACKED = 56, SNN_WORDS = SNN_PACKED * 8, SNN_CONTROL = 8 };

#if defined(__AVX512BW__)
enum { SNN_WIDTH = 64 };
#elif defined(__AVX2__)
enum { SNN_WIDTH = 32 };
#else
enum { SNN_WIDTH = 16 };
#endif
enum { SNN_PARTS = 64 / SNN_WIDTH, SNN_LANES = SNN_WIDTH / 8 }; /* of a row; of a part */

typedef u64 snn_words __attribute__((vector_size(SNN_WIDTH), may_alias));
typedef uint16_t snn_halves __attribute__((vector_size(SNN_WIDTH), may_alias));
typedef uint8_t snn_bytes __attribute__((vector_size(SNN_WIDTH), may_alias));

typedef uint8_t snn_block[SNN_ROWS][64] __attribute__((aligned(64)));

#define SNN_TOP 0x8080808080808080u
#define SNN_AT(block, row, part) (*(snn_bytes *)&(block)[row][(part) * SNN_WIDTH])

static inline snn_bytes snn_all(uint8_t x) { return (snn_bytes){0} + x; }

/* a * b in each lane, by their lower halves */
static inline snn_words snn_mul32(snn_words a, snn_words b) {
#if defined(__AVX512BW__)
    return (snn_words)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (snn_words)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
    return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#endif
}

/* upper half of a * b in each lane */
static inline snn_halves snn_high(snn_halves a, uint16_t b) {
#if defined(__AVX512BW__)
    return (snn_halves)_mm512_mulhi_epu16((__m512i)a, _mm512_set1_epi16((short)b));
#elif defined(__AVX2__)
    return (snn_halves)_mm256_mulhi_epu16((__m256i)a, _mm256_set1_epi16((short)b));
#else
    snn_halves out;
    for (int i = 0; i < SNN_WIDTH / 2; i++) out[i] = (uint16_t)((uint32_t)a[i] * b >> 16);
    return out;
#endif
}

static inline snn_bytes snn_min(snn_bytes a, snn_bytes b) {
#if defined(__AVX512BW__)
    return (snn_bytes)_mm512_min_epu8((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (snn_bytes)_mm256_min_epu8((__m256i)a, (__m256i)b);
#else
    snn_bytes less = (snn_bytes)(a < b);
    return (a & less) | (b & ~less);
#endif
}

/* x mod 67, x < 134 */
static inline snn_bytes snn_reduce(snn_bytes x) { return snn_min(x, x - snn_all(SNN_P)); }

/* mask ? a : b */
static inline snn_bytes snn_pick(snn_bytes mask, snn_bytes a, snn_bytes b) {
    return (a & mask) | (b & ~mask);
}

/* 0 or 1 in each byte of part of a row, for the bits of a packed word */
static inline snn_bytes snn_spread(u64 word, size_t part) {
    snn_words shift;
    for (size_t l = 0; l < SNN_LANES; l++) shift[l] = part * SNN_LANES + l;
    return (snn_bytes)((((snn_words){0} + word) >> shift) & 0x0101010101010101u);
}

/* the packed word of a row of 0 and 1 */
static inline u64 snn_gather(const uint8_t *row) {
    u64 lanes[8], word = 0;
    memcpy(lanes, row, sizeof lanes);
    for (size_t l = 0; l < 8; l++) word |= lanes[l] << l;
    return word;
}

/* SNN_WIDTH columns of four rows, from one 256-bit fraction a lane; base is 66 or 67 and
 * its constants are folded */
static inline __attribute__((always_inline))
void snn_digits(const u64 *random, unsigned base, snn_block out, size_t row, size_t part) {
    const u64 square = base * base, power = square * square;
    const snn_words by_power = (snn_words){0} + power, by_square = (snn_words){0} + square;
    const snn_words inverse = (snn_words){0} + (((u64)1 << 43) / square + 1);
    const uint16_t reciprocal = (1u << 21) / base + 1;
    snn_words limb[8], digit[8];
    for (size_t k = 0; k < 4; k++) {
        limb[2 * k] = *(const snn_words *)(random + 8 * k + SNN_LANES * part);
        limb[2 * k + 1] = limb[2 * k] >> 32;
    }
    PSM_UNROLL
    for (size_t j = 0; j < 8; j++) {
        snn_words carry = {0};
        PSM_UNROLL
        for (size_t k = 0; k < 8; k++) {
            limb[k] = snn_mul32(limb[k], by_power) + carry;
            carry = limb[k] >> 32;
        }
        digit[j] = carry;
    }
    PSM_UNROLL
    for (size_t j = 0; j < 4; j++) {
        snn_words high = snn_mul32(digit[2 * j], inverse) >> 43;
        snn_words pairs = high | (digit[2 * j] - snn_mul32(high, by_square)) << 16;
        high = snn_mul32(digit[2 * j + 1], inverse) >> 43;
        pairs |= (high | (digit[2 * j + 1] - snn_mul32(high, by_square)) << 16) << 32;
        snn_halves both = (snn_halves)pairs, first = snn_high(both, reciprocal) >> 5;
        SNN_AT(out, row + j, part) = (snn_bytes)(first | (both - first * (uint16_t)base) << 8);
    }
}

/* block `at` of symbols below `base` */
static inline __attribute__((always_inline))
void snn_symbols(const psm_aes_key *key, u64 stream, size_t at, unsigned base, snn_block out) {
    _Alignas(64) u64 random[512];
    psm_prg_fill(key, stream, 512 * at, random, 512);
    for (size_t batch = 0; batch < 16; batch++)
        for (size_t part = 0; part < SNN_PARTS; part++)
            snn_digits(random + 32 * batch, base, out, 4 * batch, part);
}

static void snn_uniform(const psm_aes_key *key, u64 stream, size_t at, snn_block out) {
    snn_symbols(key, stream, at, SNN_P, out);
}

/* non-zero symbols, less 1 */
static void snn_factors(const psm_aes_key *key, u64 stream, size_t at, snn_block out) {
    snn_symbols(key, stream, at, SNN_P - 1, out);
}

static void snn_pack(snn_block in, u64 *out) {
    for (size_t part = 0; part < SNN_PARTS; part++)
        for (size_t group = 0; group < 8; group++) {
            snn_words last = (snn_words)SNN_AT(in, 8 * group + 7, part);
            for (size_t k = 0; k < 7; k++) {
                snn_words packed = (snn_words)SNN_AT(in, 8 * group + k, part) | ((last << (k + 1)) & SNN_TOP);
                memcpy(out + (7 * group + k) * 8 + part * SNN_LANES, &packed, sizeof packed);
            }
        }
}

static void snn_unpack(const u64 *in, snn_block out) {
    for (size_t part = 0; part < SNN_PARTS; part++)
        for (size_t group = 0; group < 8; group++) {
            snn_words last = {0}, packed;
            for (size_t k = 0; k < 7; k++) {
                memcpy(&packed, in + (7 * group + k) * 8 + part * SNN_LANES, sizeof packed);
                SNN_AT(out, 8 * group + k, part) = (snn_bytes)(packed & ~SNN_TOP);
                last |= (packed & SNN_TOP) >> (k + 1);
            }
            SNN_AT(out, 8 * group + 7, part) = (snn_bytes)last;
        }
}

/* corrections of shares of the bits of x: bit - symbol, for the holder of the packed
 * share; `key` is the other holder's, whose share are the symbols of the stream */
static void psm_snn_bits_deal(const psm_aes_key *key, u64 stream, const u64 *x, size_t n,
                              size_t begin, size_t end, u64 *out) {
    snn_block symbols;
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        v8 planes[64];
        psm_planes(x + at * 64, m, w, 0, (u64 *)planes);
        for (size_t i = 0; i < w; i++) {
            snn_uniform(key, stream, at + i, symbols);
            for (size_t part = 0; part < SNN_PARTS; part++)
                for (size_t row = 0; row < SNN_ROWS; row++) {
                    snn_bytes *symbol = &SNN_AT(symbols, row, part);
                    *symbol = snn_reduce(snn_spread(planes[row][i], part) + snn_all(SNN_P) - *symbol);
                }
            snn_pack(symbols, out + (at + i) * SNN_WORDS);
        }
    }
}

/* Row i becomes row i ^ place, bit k of the places being those of control[k]. */
static void snn_shuffle(const u64 *control, snn_block x) {
    for (size_t part = 0; part < SNN_PARTS; part++)
        for (size_t stage = 0; stage < 6; stage += 3) {
            size_t step = (size_t)1 << stage;
            snn_bytes swap[3];
            for (size_t k = 0; k < 3; k++) swap[k] = 0 - snn_spread(control[stage + k], part);
            for (size_t group = 0; group < 8; group++) {
                size_t first = stage ? group : 8 * group;
                snn_bytes r[8];
                PSM_UNROLL
                for (size_t i = 0; i < 8; i++) r[i] = SNN_AT(x, first + i * step, part);
                PSM_UNROLL
                for (size_t k = 0; k < 3; k++)
                    PSM_UNROLL
                    for (size_t i = 0; i < 8; i++)
                        if (!(i >> k & 1)) {
                            snn_bytes a = r[i], b = r[i | (size_t)1 << k];
                            r[i] = snn_pick(swap[k], b, a);
                            r[i | (size_t)1 << k] = snn_pick(swap[k], a, b);
                        }
                PSM_UNROLL
                for (size_t i = 0; i < 8; i++) SNN_AT(x, first + i * step, part) = r[i];
            }
        }
}

/* One holder's c of psm_snn_compare from its shares x of the bits. v: the planes of the comparand;
 * below: where x < v is asked, for x > v; always: where the answer is known; lead: adds constants. */
static inline __attribute__((always_inline))
void snn_differences(const v8 *v, size_t word, u64 below, u64 always, int lead, snn_block x) {
    const uint8_t one = lead ? 1 : 0;
    for (size_t part = 0; part < SNN_PARTS; part++) {
        snn_bytes sum = {0}, down = 0 - snn_spread(below, part), fixed = 0 - snn_spread(always, part);
        snn_bytes constant = snn_pick(down, snn_all(lead ? SNN_P - 1 : 0), snn_all(one));
        for (size_t row = SNN_ROWS; row-- > 0;) {
            snn_bytes bit = 0 - snn_spread(v[row][word], part);
            snn_bytes plus = SNN_AT(x, row, part), minus = snn_all(SNN_P) - plus;
            /* v - x, or x - v */
            snn_bytes c = snn_pick(down, plus, minus) + (bit & constant) + snn_all(one) + sum;
            SNN_AT(x, row, part) = snn_pick(fixed, snn_all(row ? one : 0), c);
            /* x ^ v */
            sum = snn_reduce(sum + snn_reduce(snn_pick(bit, minus + snn_all(one), plus)));
        }
    }
}

/* c = c (s + 1) + u, or - u; c up to 200 */
static inline __attribute__((always_inline))
void snn_multiply(int lead, snn_block s, snn_block u, snn_block c) {
    for (size_t part = 0; part < SNN_PARTS; part++)
        for (size_t row = 0; row < SNN_ROWS; row++) {
            snn_halves x = (snn_halves)SNN_AT(c, row, part);
            snn_halves y = (snn_halves)(SNN_AT(s, row, part) + 1);
            snn_halves even = (x & 0xFF) * (y & 0xFF), odd = (x >> 8) * (y >> 8);
            even -= (snn_high(even, 31301) >> 5) * SNN_P; /* t / 67 = t * 31301 >> 21 for t < 2^14 */
            odd -= (snn_high(odd, 31301) >> 5) * SNN_P;
            snn_bytes mask = SNN_AT(u, row, part);
            if (!lead) mask = snn_all(SNN_P) - mask;
            SNN_AT(c, row, part) = snn_reduce((snn_bytes)(even | odd << 8) + mask);
        }
}

/* One holder's message of a comparison of shared bits x with numbers r that both
 * holders know, under a bit beta of theirs: P2 finds a zero exactly where
 * beta ^ (x > r - less), less being 0 or 1.
 *
 * With v = r - less + beta, which is carried in 65 bits:
 *   beta = 0: c_i = v_i - x_i + 1 + sum_{k > i} (x_k ^ v_k)   is 0 at one i iff x > v
 *   beta = 1: c_i = x_i - v_i + 1 + sum_{k > i} (x_k ^ v_k)   is 0 at one i iff x < v
 * and for v = 2^64 or -1 (always): c_0 = 0, other c_i = 1.
 * All c_i are below 67: a zero is no multiple of it; and there is one at most, at the
 * highest bit in which x and v differ. The rows are permuted, i to i ^ place for a
 * uniform place, multiplied by uniform s_i from 1 to 66, and hidden by uniform u_i,
 * which the other holder adds back; beta, places (control), s and u are drawn from
 * streams of a key that both holders have.
 *
 * corrections: the packed share of the bits, or NULL: those symbols of `bits` under
 * `key`.  Streams from `base` under `pair`: control, s, u. */
static void psm_snn_compare(const psm_aes_key *key, u64 bits, const psm_aes_key *pair, u64 base,
                            int lead, const u64 *corrections, const u64 *r, int less, size_t n,
                            size_t begin, size_t end, u64 *message) {
    snn_block c, s, u;
    for (size_t at = begin; at < end; at += PSM_LANES) {
        size_t w = psm_width(at, end), m = n - at * 64 < w * 64 ? n - at * 64 : w * 64;
        u64 control[SNN_CONTROL * PSM_LANES];
        v8 v[64], beta = {0}, carry;
        psm_planes(r + at * 64, m, w, 0, (u64 *)v);
        psm_prg_fill(pair, base, SNN_CONTROL * at, control, SNN_CONTROL * w);
        for (size_t i = 0; i < w; i++) beta[i] = control[SNN_CONTROL * i + 6];
        carry = less ? ~beta : beta;
        for (size_t row = 0; row < SNN_ROWS; row++) {
            v8 out = v[row] ^ carry;
            carry &= less ? ~v[row] : v[row];
            v[row] = out;
        }
        for (size_t i = 0; i < w; i++) {
            if (corrections) snn_unpack(corrections + (at + i) * SNN_WORDS, c);
            else snn_uniform(key, bits, at + i, c);
            snn_factors(pair, base + 1, at + i, s);
            snn_uniform(pair, base + 2, at + i, u);
            if (lead) snn_differences(v, i, beta[i], carry[i], 1, c);
            else snn_differences(v, i, beta[i], carry[i], 0, c);
            snn_shuffle(control + SNN_CONTROL * i, c);
            if (lead) snn_multiply(1, s, u, c);
            else snn_multiply(0, s, u, c);
            snn_pack(c, message + (at + i) * SNN_WORDS);
        }
    }
}

/* P2: packed bits of the elements of which one sum of symbols is zero */
static void psm_snn_found(const u64 *first, const u64 *second, size_t begin, size_t end, u64 *out) {
    snn_block x, y;
    _Alignas(64) uint8_t found[64];
    for (size_t at = begin; at < end; at++) {
        snn_unpack(first + at * SNN_WORDS, x);
        snn_unpack(second + at * SNN_WORDS, y);
        for (size_t part = 0; part < SNN_PARTS; part++) {
            snn_bytes least = snn_all(255);
            for (size_t row = 0; row < SNN_ROWS; row++)
                least = snn_min(least, snn_reduce(SNN_AT(x, row, part) + SNN_AT(y, row, part)));
            *(snn_bytes *)(found + part * SNN_WIDTH) = (snn_bytes)(least == 0) & 1;
        }
        out[at] = snn_gather(found);
    }
}
