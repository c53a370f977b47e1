/* See fss.h.  A task is a fixed number of elements, so that keys and shares do not depend
 * on the number of threads. */
#include "fss.h"

#include "dispatch.h"
#include "pool.h"

enum { GRAIN = 128, TILE = 8, TAIL = 2, SALT = 2, BELOW = 7 };

static size_t psm_fss_key_words(psm_fss f) {
    size_t tail = f.bits < TAIL ? f.bits : TAIL;
    return (f.bits - tail) * (2 + (f.less ? f.words : 0)) + ((size_t)f.words << tail);
}

typedef struct {
    const psm_kernels *k;
    const psm_holders *h;
    u64 base, mask, shift;
    psm_fss f;
    psm_aes_key hash;
    const u64 *dealt, *alpha, *in, *out, *x;
    u64 *to;
    size_t n, first, last, ranges;
} call;

typedef struct {
    size_t row, begin, end;
} part;

static part part_of(const call *c, size_t index) {
    part p = {.row = index / c->ranges, .begin = c->first + index % c->ranges * GRAIN};
    p.end = c->last - p.begin < GRAIN ? c->last : p.begin + GRAIN;
    return p;
}

static void run(call *c, const u64 *salt, size_t rows, size_t grain, void (*task)(void *, size_t)) {
    c->k = psm_kernels_get();
    c->k->aes_expand((const uint8_t *)salt, &c->hash);
    c->ranges = (c->last - c->first + grain - 1) / grain;
    if (rows && c->ranges) psm_parallel(rows * c->ranges, task, c);
}

/* the salt: words that nobody could tell in advance, from the streams of all holders */
static void deal_salt(const psm_holders *h, u64 stream, size_t first, u64 *salt) {
    const psm_kernels *k = psm_kernels_get();
    size_t at = first / GRAIN * SALT;
    k->prg_fill(&h->keys[0], stream, at, salt, SALT);
    for (size_t i = 1; i < h->count; i++) k->prg_add(&h->keys[i], stream, at, salt, salt, SALT);
}

static void deal_task(void *context, size_t index) {
    const call *c = context;
    part p = part_of(c, index);
    c->k->fss_deal(c->h->keys, c->base + 1, c->f, &c->hash, c->alpha, c->in, c->out, c->n, c->first,
                   c->last, p.begin, p.end, c->to);
}

static void psm_step_fss_deal(const psm_holders *h, u64 base, psm_fss f, const u64 *alpha,
                              const u64 *in, const u64 *out, size_t n, size_t first, size_t last,
                              u64 *key) {
    call c = {.h = h, .base = base, .f = f, .alpha = alpha, .in = in, .out = out,
              .to = key + SALT, .n = n, .first = first, .last = last};
    deal_salt(h, base, first, key);
    run(&c, key, 1, GRAIN, deal_task);
}

static void eval_task(void *context, size_t index) {
    const call *c = context;
    part p = part_of(c, index);
    c->k->fss_eval(c->h->keys + p.row, c->base + 1, c->f, (ptrdiff_t)p.row != c->h->lead, &c->hash,
                   c->dealt, c->x, c->shift, c->n, c->first, c->last, p.begin, p.end,
                   c->to + p.row * c->f.words * c->n);
}

static void psm_step_fss_eval(const psm_holders *h, u64 base, psm_fss f, const u64 *key,
                              const u64 *x, u64 shift, size_t n, size_t first, size_t last,
                              u64 *out) {
    call c = {.h = h, .base = base, .f = f, .dealt = key + SALT, .x = x,
              .shift = shift, .to = out, .n = n, .first = first, .last = last};
    run(&c, key, h->count, GRAIN, eval_task);
}

/* --- bits: a task is one tile of packed words ---------------------------------------- */

static size_t psm_fss_bits_words(unsigned bits, size_t n) {
    return 2 * (bits - BELOW + 1) * n + (n + 63) / 64;
}

/* [begin, end) of the packed words of task `index` */
static part tile_of(const call *c, size_t index) {
    size_t words = (c->last - c->first + 63) / 64;
    part p = {.row = index / c->ranges, .begin = index % c->ranges * TILE};
    p.end = words - p.begin < TILE ? words : p.begin + TILE;
    return p;
}

static void bits_deal_task(void *context, size_t index) {
    const call *c = context;
    part p = tile_of(c, index);
    c->k->fss_bits_deal(c->h->keys, c->mask, c->base + 1, c->f.bits, c->f.less, &c->hash, c->first,
                        c->last - c->first, p.begin, p.end, c->to);
}

static void psm_step_fss_bits_deal(const psm_holders *h, u64 mask, u64 base, psm_fss f, size_t first,
                                   size_t last, u64 *key) {
    call c = {.h = h, .base = base, .mask = mask, .f = f, .to = key + SALT, .first = first, .last = last};
    deal_salt(h, base, first, key);
    run(&c, key, 1, 64 * TILE, bits_deal_task);
}

static void bits_eval_task(void *context, size_t index) {
    const call *c = context;
    part p = tile_of(c, index);
    c->k->fss_bits_eval(c->h->keys + p.row, c->base + 1, c->f.bits, c->f.less,
                        (ptrdiff_t)p.row != c->h->lead, &c->hash, c->dealt, c->x, c->shift, c->first,
                        c->last - c->first, p.begin, p.end,
                        c->to + p.row * ((c->n + 63) / 64) + c->first / 64);
}

static void psm_step_fss_bits_eval(const psm_holders *h, u64 base, psm_fss f, const u64 *key,
                                   const u64 *x, u64 shift, size_t n, size_t first, size_t last,
                                   u64 *out) {
    call c = {.h = h, .base = base, .f = f, .dealt = key + SALT, .x = x,
              .shift = shift, .to = out, .n = n, .first = first, .last = last};
    run(&c, key, h->count, 64 * TILE, bits_eval_task);
}

const psm_fss_steps psm_fss_table = {
    .key_words = psm_fss_key_words,
    .deal = psm_step_fss_deal,
    .eval = psm_step_fss_eval,
    .bits_words = psm_fss_bits_words,
    .bits_deal = psm_step_fss_bits_deal,
    .bits_eval = psm_step_fss_bits_eval,
};
