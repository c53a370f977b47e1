/* See wide.h.  The split into tasks depends on sizes alone. */
#include "wide.h"

#include "dispatch.h"
#include "pool.h"

enum { GRAIN = 4096 };

typedef struct {
    const psm_kernels *k;
    const psm_holders *h;
    const u64 *in, *in2, *in3, *in4, *in5;
    u64 *out;
    u64 stream, first, low, high;
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

TASK(leaves_task) {
    PART;
    s->k->wide_leaves(s->in, OF(in2, 97), s->in3[p.set], OF(out, 64), s->n, p.begin, p.end);
}

void psm_wide_leaves_all(size_t sets, const u64 *c, const u64 *dealt, const u64 *factors, u64 *out, size_t n) {
    STEP(leaves_task, sets, GRAIN / 8, .in = c, .in2 = dealt, .in3 = factors, .out = out);
}

TASK(join_task) {
    PART;
    s->k->wide_join(OF(in, 4), OF(in2, 3), s->in3, OF(in4, 2), OF(out, 2), s->n, p.begin, p.end);
}

void psm_wide_join_all(size_t sets, const u64 *x, const u64 *masks, const u64 *opened, const u64 *dealt, u64 *out,
                       size_t n) {
    STEP(join_task, sets, GRAIN, .in = x, .in2 = masks, .in3 = opened, .in4 = dealt, .out = out);
}
