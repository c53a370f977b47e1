/* AES-128 by the AES-NI instructions, eight blocks interleaved to cover the
 * latency of aesenc. Constant time by construction. Needs aes and sse4.1. */

#include "aes_ni_key.inc.h"
#include "prg_op.h"

#define AES_VECTOR 32 /* bytes */
enum { AES_BLOCKS = 8 };

typedef struct {
    const __m128i *rounds; /* left in memory: aesenc reads them there at no cost */
} aes_schedule;

static inline void aes_load(const psm_aes_key *key, aes_schedule *schedule) {
    schedule->rounds = (const __m128i *)key->bytes;
}

static inline __m128i aes_round_key(const aes_schedule *schedule, int round) {
    return _mm_loadu_si128(schedule->rounds + round);
}

static inline __attribute__((always_inline))
void aes_rounds(const aes_schedule *schedule, __m128i block[8]) {
    for (int i = 0; i < 8; i++)
        block[i] = _mm_xor_si128(block[i], aes_round_key(schedule, 0));
    for (int r = 1; r < 10; r++)
        for (int i = 0; i < 8; i++)
            block[i] = _mm_aesenc_si128(block[i], aes_round_key(schedule, r));
    for (int i = 0; i < 8; i++)
        block[i] = _mm_aesenclast_si128(block[i], aes_round_key(schedule, 10));
}

static inline __attribute__((always_inline))
void aes_batch(const aes_schedule *schedule, const uint8_t *in, uint8_t *out) {
    __m128i block[8];

    for (int i = 0; i < 8; i++)
        block[i] = _mm_loadu_si128((const __m128i *)in + i);
    aes_rounds(schedule, block);
    for (int i = 0; i < 8; i++)
        _mm_storeu_si128((__m128i *)out + i, block[i]);
}

/* out = AES of a batch in vectors of two blocks */
static inline __attribute__((always_inline))
void aes_vectors(const aes_schedule *schedule, const __m256i in[4], __m256i out[4]) {
    __m128i block[8];

    for (int i = 0; i < 4; i++) {
        block[2 * i] = _mm256_castsi256_si128(in[i]);
        block[2 * i + 1] = _mm256_extracti128_si256(in[i], 1);
    }
    aes_rounds(schedule, block);
    for (int i = 0; i < 4; i++)
        out[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(block[2 * i]), block[2 * i + 1], 1);
}

static inline __attribute__((always_inline))
void aes_mask(enum prg_op op, const aes_schedule *schedule, u64 stream, u64 counter, const u64 *x,
              u64 *out) {
    __m128i first = _mm_set_epi64x((long long)stream, (long long)counter);
    __m128i block[8];

    for (int i = 0; i < 8; i++)
        block[i] = _mm_add_epi64(first, _mm_set_epi64x(0, i));
    aes_rounds(schedule, block);
    for (int i = 0; i < 8; i++) {
        switch (op) {
        case PRG_FILL: break;
        case PRG_ADD: block[i] = _mm_add_epi64(_mm_loadu_si128((const __m128i *)x + i), block[i]); break;
        case PRG_SUB: block[i] = _mm_sub_epi64(_mm_loadu_si128((const __m128i *)x + i), block[i]); break;
        case PRG_XOR: block[i] = _mm_xor_si128(_mm_loadu_si128((const __m128i *)x + i), block[i]); break;
        }
        _mm_storeu_si128((__m128i *)out + i, block[i]);
    }
}
