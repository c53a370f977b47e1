/* The PRG over the pool. A word depends on its position alone, so the split
 * shows in the time only. */
#include "prg.h"

#include "dispatch.h"
#include "pool.h"

enum { CHUNK = 16384, SPLIT_FROM = 2 * CHUNK };

typedef void combine(const psm_aes_key *, u64, u64, const u64 *, u64 *, size_t);

typedef struct {
    combine *kernel; /* NULL to fill */
    const psm_aes_key *key;
    u64 stream, first;
    const u64 *x;
    u64 *out;
    size_t n, chunk;
} call;

static void run_chunk(void *ctx, size_t index) {
    const call *c = ctx;
    size_t from = index * c->chunk, n = c->n - from < c->chunk ? c->n - from : c->chunk;

    if (c->kernel)
        c->kernel(c->key, c->stream, c->first + from, c->x + from, c->out + from, n);
    else
        psm_kernels_get()->prg_fill(c->key, c->stream, c->first + from, c->out + from, n);
}

static void run(combine *kernel, const psm_aes_key *key, u64 stream, u64 first, const u64 *x,
                u64 *out, size_t n) {
    call c = {kernel, key, stream, first, x, out, n, n < SPLIT_FROM ? n : CHUNK};

    if (n) psm_parallel((n + c.chunk - 1) / c.chunk, run_chunk, &c);
}

void psm_prg_fill(const psm_aes_key *key, u64 stream, u64 first, u64 *out, size_t n) {
    run(NULL, key, stream, first, NULL, out, n);
}

void psm_prg_add(const psm_aes_key *key, u64 stream, u64 first, const u64 *x, u64 *out, size_t n) {
    run(psm_kernels_get()->prg_add, key, stream, first, x, out, n);
}

void psm_prg_sub(const psm_aes_key *key, u64 stream, u64 first, const u64 *x, u64 *out, size_t n) {
    run(psm_kernels_get()->prg_sub, key, stream, first, x, out, n);
}

void psm_prg_xor(const psm_aes_key *key, u64 stream, u64 first, const u64 *x, u64 *out, size_t n) {
    run(psm_kernels_get()->prg_xor, key, stream, first, x, out, n);
}
