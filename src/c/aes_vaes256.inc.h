/* AES-128 by VAES on 256-bit vectors: two blocks a register, eight registers
 * interleaved to cover the latency. Constant time by construction. Needs vaes and
 * avx2, not AVX-512: Zen 3, Alder Lake and later clients. */

#include "aes_ni_key.inc.h"
#include "prg_op.h"

#define AES_VECTOR 32 /* bytes */
enum { AES_BLOCKS = 16 };

typedef struct {
    __m256i round[11]; /* left in memory: vaesenc reads them there at no cost */
} aes_schedule;

static inline void aes_load(const psm_aes_key *key, aes_schedule *schedule) {
    for (int r = 0; r < 11; r++)
        schedule->round[r] = _mm256_broadcastsi128_si256(
            _mm_loadu_si128((const __m128i *)key->bytes + r));
}

static inline __attribute__((always_inline))
void aes_rounds(const aes_schedule *schedule, __m256i block[8]) {
    for (int i = 0; i < 8; i++)
        block[i] = _mm256_xor_si256(block[i], schedule->round[0]);
    for (int r = 1; r < 10; r++)
        for (int i = 0; i < 8; i++)
            block[i] = _mm256_aesenc_epi128(block[i], schedule->round[r]);
    for (int i = 0; i < 8; i++)
        block[i] = _mm256_aesenclast_epi128(block[i], schedule->round[10]);
}

static inline __attribute__((always_inline))
void aes_batch(const aes_schedule *schedule, const uint8_t *in, uint8_t *out) {
    __m256i block[8];

    for (int i = 0; i < 8; i++)
        block[i] = _mm256_loadu_si256((const __m256i *)in + i);
    aes_rounds(schedule, block);
    for (int i = 0; i < 8; i++)
        _mm256_storeu_si256((__m256i *)out + i, block[i]);
}

/* out = AES of a batch in vectors of two blocks */
static inline __attribute__((always_inline))
void aes_vectors(const aes_schedule *schedule, const __m256i in[8], __m256i out[8]) {
    for (int i = 0; i < 8; i++) out[i] = in[i];
    aes_rounds(schedule, out);
}

static inline __attribute__((always_inline))
void aes_mask(enum prg_op op, const aes_schedule *schedule, u64 stream, u64 counter, const u64 *x,
              u64 *out) {
    __m256i first = _mm256_broadcastsi128_si256(_mm_set_epi64x((long long)stream, (long long)counter));
    __m256i block[8];

    for (int i = 0; i < 8; i++)
        block[i] = _mm256_add_epi64(first, _mm256_set_epi64x(0, 2 * i + 1, 0, 2 * i));
    aes_rounds(schedule, block);
    for (int i = 0; i < 8; i++) {
        switch (op) {
        case PRG_FILL: break;
        case PRG_ADD: block[i] = _mm256_add_epi64(_mm256_loadu_si256((const __m256i *)x + i), block[i]); break;
        case PRG_SUB: block[i] = _mm256_sub_epi64(_mm256_loadu_si256((const __m256i *)x + i), block[i]); break;
        case PRG_XOR: block[i] = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)x + i), block[i]); break;
        }
        _mm256_storeu_si256((__m256i *)out + i, block[i]);
    }
}
