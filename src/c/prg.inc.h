/* AES-128 in counter mode as a source of uniform ring words.
 *
 * Word k of a stream is half (k & 1) of AES(key, LE64(k >> 1) || LE64(stream)),
 * under the key of the stream's epoch (ring.h), so any position can be reached without state, and two parties that hold the
 * same key need only agree on numbers. The words are used as masks: every entry
 * point but prg_fill combines them with its operand while they are in L1.
 *
 * This body is the same for every cipher (aes_*.inc.h), which provides
 *
 *   AES_BLOCKS                      the blocks of one batch
 *   AES_VECTOR                      the bytes of its vectors
 *   aes_schedule                    round keys as the cipher wants them
 *   aes_load(key, schedule)
 *   aes_batch(schedule, in, out)    out = AES(in), one batch; out may equal in
 *   aes_vectors(schedule, in, out)  the same in vectors, which may be registers
 *   aes_mask(op, schedule, stream, counter, x, out)
 *                                   out = x op one batch of key stream
 *   psm_aes_expand                  as in ring.h
 *
 * Assumes a little-endian machine, so that a block is two u64 in memory order.
 */
#include <stdlib.h>

/* out[i] = x[i] op word[i] */
static inline __attribute__((always_inline))
void prg_combine(enum prg_op op, const u64 *x, const u64 *word, u64 *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        switch (op) {
        case PRG_FILL: out[i] = word[i]; break;
        case PRG_ADD: out[i] = x[i] + word[i]; break;
        case PRG_SUB: out[i] = x[i] - word[i]; break;
        case PRG_XOR: out[i] = x[i] ^ word[i]; break;
        }
    }
}

/* The key of a stream's epoch; `space` is for one that is not among the last. */
static inline const psm_aes_key *prg_key(const psm_aes_key *key, u64 stream, psm_aes_key *space) {
    const psm_epochs *epochs = key->epochs;
    u64 epoch = stream >> PSM_EPOCH;
    if (epochs == NULL)
        return key;
    if (epoch >= epochs->count)
        abort(); /* words of a key that there is not yet would be no masks */
    if (epochs->count - epoch <= PSM_RECENT)
        return &epochs->recent[epoch % PSM_RECENT];
    psm_aes_expand(epochs->keys + 16 * epoch, space);
    return space;
}

/* out[i] = x[i] op word (first + i); x is unused by FILL; out may equal x */
static inline __attribute__((always_inline))
void prg_stream(enum prg_op op, const psm_aes_key *key, u64 stream, u64 first,
                const u64 *x, u64 *out, size_t n) {
    enum { WORDS = 2 * AES_BLOCKS };
    aes_schedule schedule;
    psm_aes_key space;
    _Alignas(64) u64 words[WORDS];
    u64 counter = first >> 1;
    size_t done = 0, skip = first & 1;

    if (n == 0)
        return;
    aes_load(prg_key(key, stream, &space), &schedule);
    if (skip) {
        aes_mask(PRG_FILL, &schedule, stream, counter, NULL, words);
        counter += AES_BLOCKS;
        done = n < WORDS - 1 ? n : WORDS - 1;
        prg_combine(op, x, words + 1, out, done);
    }
    for (; n - done >= WORDS; done += WORDS, counter += AES_BLOCKS)
        aes_mask(op, &schedule, stream, counter, op == PRG_FILL ? NULL : x + done, out + done);
    if (done < n) {
        aes_mask(PRG_FILL, &schedule, stream, counter, NULL, words);
        prg_combine(op, op == PRG_FILL ? NULL : x + done, words, out + done, n - done);
    }
}

static void psm_prg_fill(const psm_aes_key *key, u64 stream, u64 first, u64 *out, size_t n) {
    prg_stream(PRG_FILL, key, stream, first, NULL, out, n);
}

static void psm_prg_add(const psm_aes_key *key, u64 stream, u64 first,
                         const u64 *x, u64 *out, size_t n) {
    prg_stream(PRG_ADD, key, stream, first, x, out, n);
}

static void psm_prg_sub(const psm_aes_key *key, u64 stream, u64 first,
                         const u64 *x, u64 *out, size_t n) {
    prg_stream(PRG_SUB, key, stream, first, x, out, n);
}

static void psm_prg_xor(const psm_aes_key *key, u64 stream, u64 first,
                         const u64 *x, u64 *out, size_t n) {
    prg_stream(PRG_XOR, key, stream, first, x, out, n);
}

/* out[16*i..] = AES(in[16*i..]) for i < blocks; out may equal in */
static void psm_aes_blocks(const psm_aes_key *key, const uint8_t *in, uint8_t *out,
                            size_t blocks) {
    enum { BATCH = 16 * AES_BLOCKS };
    aes_schedule schedule;
    uint8_t last[BATCH] = {0};
    size_t done = 0, bytes = 16 * blocks;

    if (blocks == 0)
        return;
    aes_load(key, &schedule);
    for (; bytes - done >= BATCH; done += BATCH)
        aes_batch(&schedule, in + done, out + done);
    if (done < bytes) {
        memcpy(last, in + done, bytes - done);
        aes_batch(&schedule, last, last);
        memcpy(out + done, last, bytes - done);
    }
}
