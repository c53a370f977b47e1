/* AES-128 by VAES on 512-bit vectors: four blocks a register, eight registers
 * interleaved. Needs vaes and avx512f. */

#include "aes_ni_key.inc.h"
#include "prg_op.h"

#define AES_VECTOR 64 /* bytes */
enum { AES_BLOCKS = 32 };

typedef struct {
    __m512i round[11];
} aes_schedule;

static inline void aes_load(const psm_aes_key *key, aes_schedule *schedule) {
    for (int r = 0; r < 11; r++)
        schedule->round[r] = _mm512_broadcast_i32x4(
            _mm_loadu_si128((const __m128i *)key->bytes + r));
}

static inline __attribute__((always_inline))
void aes_rounds(const aes_schedule *schedule, __m512i block[8]) {
    for (int i = 0; i < 8; i++)
        block[i] = _mm512_xor_si512(block[i], schedule->round[0]);
    for (int r = 1; r < 10; r++)
        for (int i = 0; i < 8; i++)
            block[i] = _mm512_aesenc_epi128(block[i], schedule->round[r]);
    for (int i = 0; i < 8; i++)
        block[i] = _mm512_aesenclast_epi128(block[i], schedule->round[10]);
}

static inline __attribute__((always_inline))
void aes_batch(const aes_schedule *schedule, const uint8_t *in, uint8_t *out) {
    __m512i block[8];

    for (int i = 0; i < 8; i++)
        block[i] = _mm512_loadu_si512(in + 64 * i);
    aes_rounds(schedule, block);
    for (int i = 0; i < 8; i++)
        _mm512_storeu_si512(out + 64 * i, block[i]);
}

/* out = AES of a batch in vectors of four blocks */
static inline __attribute__((always_inline))
void aes_vectors(const aes_schedule *schedule, const __m512i in[8], __m512i out[8]) {
    for (int i = 0; i < 8; i++) out[i] = in[i];
    aes_rounds(schedule, out);
}

static inline __attribute__((always_inline))
void aes_mask(enum prg_op op, const aes_schedule *schedule, u64 stream, u64 counter, const u64 *x,
              u64 *out) {
    __m512i first = _mm512_broadcast_i32x4(_mm_set_epi64x((long long)stream, (long long)counter));
    __m512i block[8];

    for (int i = 0; i < 8; i++) {
        int c = 4 * i;
        block[i] = _mm512_add_epi64(first, _mm512_set_epi64(0, c + 3, 0, c + 2, 0, c + 1, 0, c));
    }
    aes_rounds(schedule, block);
    for (int i = 0; i < 8; i++) {
        switch (op) {
        case PRG_FILL: break;
        case PRG_ADD: block[i] = _mm512_add_epi64(_mm512_loadu_si512(x + 8 * i), block[i]); break;
        case PRG_SUB: block[i] = _mm512_sub_epi64(_mm512_loadu_si512(x + 8 * i), block[i]); break;
        case PRG_XOR: block[i] = _mm512_xor_si512(_mm512_loadu_si512(x + 8 * i), block[i]); break;
        }
        _mm512_storeu_si512(out + 8 * i, block[i]);
    }
}
