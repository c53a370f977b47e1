/* See wide.h.  The split into tasks depends on sizes alone. */
#include "wide.h"

#include "dispatch.h"
#include "pool.h"

enum { GRAIN = 4096 };

typedef struct {
    const psm_kernels *k;
    const psm_holders *h;
    const u64 *in, *in2, *in3, *in4, *in5;
    u64 *out, *out2, *out3;
    u64 stream, other, first, low, high;
    int flag;
    size_t n, ranges, grain;
} step;

typedef struct {
    size_t set, begin, end;
} part;

static part part_of(const step *s, size_t index) {
    size_t begin = index % s->ranges * s->grain;
    return (part){index / s->ranges, begin, begin + s->grain < s->n ? begin + s->grain : s->n};
}

static void run(step s, size_t sets, size_t grain, void (*task)(void *, size_t)) {
    s.k = psm_kernels_get();
    s.grain = grain;
    s.ranges = (s.n + grain - 1) / grain;
    if (sets * s.ranges <= 2)
        for (size_t i = 0; i < sets * s.ranges; i++) task(&s, i);
    else
        psm_parallel(sets * s.ranges, task, &s);
}

#define STEP(task, sets, grain, ...) run((step){.n = n, __VA_ARGS__}, sets, grain, task)
#define TASK(name) static void name(void *context, size_t index)
#define PART                                                                                       \
    const step *s = context;                                                                       \
    part p = part_of(s, index)
#define OF(array, words) (s->array ? s->array + p.set * (words) * s->n : NULL)

TASK(pack_task) {
    PART;
    s->k->wide_pack(OF(in, 4), OF(in2, 2), s->flag, OF(out, 2), s->n, p.begin, p.end);
}

void psm_wide_pack_all(size_t sets, const u64 *x, const u64 *m, int subtract, u64 *out, size_t n) {
    STEP(pack_task, sets, GRAIN, .in = x, .in2 = m, .flag = subtract, .out = out);
}

TASK(combine_task) {
    PART;
    s->k->wide_combine(OF(in, 2), OF(in2, 4), s->in3, OF(in4, 2), s->in5, OF(out, 4), s->n, p.begin, p.end);
}

void psm_wide_combine_all(size_t sets, const u64 *z, const u64 *x, const u64 *d, const u64 *a, const u64 *e, u64 *out,
                          size_t n) {
    STEP(combine_task, sets, GRAIN, .in = z, .in2 = x, .in3 = d, .in4 = a, .in5 = e, .out = out);
}

TASK(affine_task) {
    PART;
    s->k->wide_affine(s->in, s->in2[p.set], OF(in3, 4), s->in4, OF(out, 4), s->n, p.begin, p.end);
}

void psm_wide_affine_all(size_t sets, const u64 *v, const u64 *factors, const u64 *dealt, const u64 *c, u64 *out,
                         size_t n) {
    STEP(affine_task, sets, GRAIN, .in = v, .in2 = factors, .in3 = dealt, .in4 = c, .out = out);
}

TASK(deal_task) {
    PART;
    s->k->wide_deal(s->h->keys, s->in ? s->h->count - 1 : s->h->count, s->stream, s->first, s->in, s->flag, s->low,
                    s->high, s->in != NULL, s->out, s->n, p.begin, p.end);
}

void psm_wide_deal_all(const psm_holders *h, u64 stream, u64 first, const u64 *v, int upper, u64 low, u64 high,
                       u64 *out, size_t n) {
    STEP(deal_task, 1, GRAIN, .h = h, .stream = stream, .first = first, .in = v, .flag = upper, .low = low,
         .high = high, .out = out);
}

/* --- the bits of a comparison: sets are holders --- */

#define KEY (s->h->keys + p.set)
#define SENT(array) ((ptrdiff_t)p.set == s->h->target ? s->array : NULL) /* to the last holder */

TASK(leaves_deal_task) {
    PART;
    s->k->wide_leaves_deal(s->h->keys, s->h->count, s->other, s->stream, s->low, s->out, s->n, p.begin, p.end);
}

void psm_wide_leaves_deal_all(const psm_holders *h, u64 mask, u64 stream, u64 alpha, u64 *out, size_t n) {
    STEP(leaves_deal_task, 1, GRAIN / 8, .h = h, .other = mask, .stream = stream, .low = alpha, .out = out);
}

TASK(leaves_task) {
    PART;
    s->k->wide_leaves(KEY, s->stream, SENT(in), s->in2, s->in3[p.set], OF(out, 64), OF(out2, 1), s->n, p.begin, p.end);
}

void psm_wide_leaves_all(const psm_holders *h, u64 stream, const u64 *corrections, const u64 *c, const u64 *factors,
                         u64 *out, u64 *top, size_t n) {
    STEP(leaves_task, h->count, GRAIN / 8, .h = h, .stream = stream, .in = corrections, .in2 = c, .in3 = factors,
         .out = out, .out2 = top);
}

TASK(join_deal_task) {
    PART;
    s->k->wide_join_deal(s->h->keys, s->h->count, s->other, s->stream, s->low, s->out, s->n, p.begin, p.end);
}

void psm_wide_join_deal_all(const psm_holders *h, u64 masks, u64 stream, u64 alpha, u64 *out, size_t n) {
    STEP(join_deal_task, 1, GRAIN, .h = h, .other = masks, .stream = stream, .low = alpha, .out = out);
}

TASK(join_task) {
    PART;
    s->k->wide_join(KEY, s->other, SENT(in), s->stream, SENT(in2), OF(in3, 4), s->in4, OF(out, 2), s->n, p.begin, p.end);
}

void psm_wide_join_all(const psm_holders *h, u64 masks, const u64 *mask_corrections, u64 stream,
                       const u64 *corrections, const u64 *x, const u64 *opened, u64 *out, size_t n) {
    STEP(join_task, h->count, GRAIN, .h = h, .other = masks, .in = mask_corrections, .stream = stream,
         .in2 = corrections, .in3 = x, .in4 = opened, .out = out);
}

/* n here is of three times as many elements */
TASK(factors_task) {
    PART;
    size_t third = s->n / 3, words = (s->n + 63) / 64, at = p.set * 4 * third;
    s->k->wide_factors(KEY, s->other, SENT(in), s->in2 + at, s->in3 + at, s->out + p.set * words, OF(out2, 1),
                       OF(out3, 1), third, p.begin, p.end);
}

void psm_wide_factors_all(const psm_holders *h, u64 masks, const u64 *corrections, const u64 *x, const u64 *y,
                          u64 *packed, u64 *rest, u64 *code, size_t third) {
    size_t n = 3 * third;
    STEP(factors_task, h->count, GRAIN, .h = h, .other = masks, .in = corrections, .in2 = x, .in3 = y, .out = packed,
         .out2 = rest, .out3 = code);
}

TASK(count_task) {
    PART;
    s->k->wide_count(s->in, s->first, s->out, s->n, p.begin, p.end);
}

void psm_wide_count_all(const u64 *packed, size_t rows, u64 *out, size_t n) {
    STEP(count_task, 1, GRAIN, .in = packed, .first = rows, .out = out);
}
