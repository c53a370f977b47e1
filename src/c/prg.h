/* The PRG kernels of ring.h, long arrays being shared among the pool's threads. */
#ifndef PSM_PRG_H
#define PSM_PRG_H

#include "ring.h"

/* out[i] = word (first + i) of the stream */
void psm_prg_fill(const psm_aes_key *key, u64 stream, u64 first, u64 *out, size_t n);
/* out[i] = x[i] + word (first + i); out may equal x */
void psm_prg_add(const psm_aes_key *key, u64 stream, u64 first, const u64 *x, u64 *out, size_t n);
/* out[i] = x[i] - word (first + i); out may equal x */
void psm_prg_sub(const psm_aes_key *key, u64 stream, u64 first, const u64 *x, u64 *out, size_t n);
/* out[i] = x[i] ^ word (first + i); out may equal x */
void psm_prg_xor(const psm_aes_key *key, u64 stream, u64 first, const u64 *x, u64 *out, size_t n);

#endif
