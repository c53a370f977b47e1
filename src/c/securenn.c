/* See securenn.h.  The split into tasks depends on n alone. */
#include "securenn.h"

#include "dispatch.h"
#include "pool.h"

enum { TILE = 8, LONG = 64, SMALL = 2 }; /* packed words a task: blocks of symbols, and words */
enum { WORDS = 448 };                    /* SNN_WORDS of securenn.inc.h */

typedef struct {
    const psm_kernels *k;
    const psm_holders *h, *pair;
    u64 own, base, before, after;
    const u64 *in, *in2, *in3;
    u64 *out, *out2;
    int less;
    size_t n, words, grain, ranges;
} step;

typedef struct {
    size_t row, begin, end; /* packed words */
    size_t first, last;     /* elements */
    const psm_aes_key *key, *pair;
    int lead, target;
} part;

static part part_of(const step *s, size_t index) {
    part p;
    p.row = index / s->ranges;
    p.begin = index % s->ranges * s->grain;
    p.end = p.begin + s->grain < s->words ? p.begin + s->grain : s->words;
    p.first = p.begin * 64;
    p.last = p.end * 64 < s->n ? p.end * 64 : s->n;
    p.key = s->h ? s->h->keys + p.row : NULL;
    p.pair = s->pair ? s->pair->keys + p.row : NULL;
    p.lead = s->h && (ptrdiff_t)p.row == s->h->lead;
    p.target = s->h && (ptrdiff_t)p.row == s->h->target;
    return p;
}

static void run(step s, size_t rows, size_t grain, void (*task)(void *, size_t)) {
    s.k = psm_kernels_get();
    s.words = (s.n + 63) / 64;
    s.grain = grain;
    s.ranges = (s.words + grain - 1) / grain;
    if (rows * s.ranges <= SMALL)
        for (size_t i = 0; i < rows * s.ranges; i++) task(&s, i);
    else
        psm_parallel(rows * s.ranges, task, &s);
}

#define STEP(task, rows, grain, ...) run((step){.n = n, __VA_ARGS__}, rows, grain, task)
#define TASK(name) static void name(void *context, size_t index)
#define PART                                                                                       \
    const step *s = context;                                                                       \
    part p = part_of(s, index);                                                                    \
    (void)p

size_t psm_securenn_words(size_t n) { return WORDS * ((n + 63) / 64); }

TASK(bits_task) {
    PART;
    s->k->snn_bits_deal(p.key, s->own, s->in, s->n, p.begin, p.end, s->out);
}

void psm_securenn_bits(const psm_holders *h, u64 stream, const u64 *x, u64 *out, size_t n) {
    STEP(bits_task, 1, TILE, .h = h, .own = stream, .in = x, .out = out);
}

TASK(compare_task) {
    PART;
    s->k->snn_compare(p.key, s->own, p.pair, s->base, p.lead, p.target ? s->in : NULL,
                      s->in2 + p.row * s->n, s->less, s->n, p.begin, p.end,
                      s->out + p.row * WORDS * s->words);
}

void psm_securenn_compare(const psm_holders *h, u64 bits, const psm_holders *pair, u64 base,
                          const u64 *corrections, const u64 *r, int less, u64 *message, size_t n) {
    STEP(compare_task, h->count, TILE, .h = h, .pair = pair, .own = bits, .base = base,
         .in = corrections, .in2 = r, .less = less, .out = message);
}

TASK(found_task) {
    PART;
    s->k->snn_found(s->in, s->in + WORDS * s->words, p.begin, p.end, s->out);
}

void psm_securenn_found(const u64 *messages, u64 *out, size_t n) {
    STEP(found_task, 1, TILE, .in = messages, .out = out);
}

TASK(sum_task) {
    PART;
    s->k->odd_sum(p.key, s->own, s->in, s->in + s->n, s->out, s->out2, p.first, p.last);
}

void psm_securenn_sum(const psm_holders *h, u64 stream, const u64 *a, u64 *x, u64 *carry, size_t n) {
    STEP(sum_task, 1, LONG, .h = h, .own = stream, .in = a, .out = x, .out2 = carry);
}

TASK(answer_task) {
    PART;
    s->k->odd_bits(p.key, s->own, s->in, s->n, s->out, p.first, p.last);
}

void psm_securenn_answer(const psm_holders *h, u64 stream, const u64 *found, u64 *out, size_t n) {
    STEP(answer_task, 1, LONG, .h = h, .own = stream, .in = found, .out = out);
}

TASK(total_task) {
    PART;
    s->k->odd_total(p.key, s->own, s->out, p.first, p.last);
}

void psm_securenn_total(const psm_holders *h, u64 stream, u64 *out, size_t n) {
    STEP(total_task, 1, LONG, .h = h, .own = stream, .out = out);
}

TASK(finish_task) {
    PART;
    s->k->odd_finish(p.key, s->own, p.pair, s->base, p.lead, s->before, s->after,
                     s->in + p.row * s->n, p.target ? s->in2 : NULL, p.target ? s->in3 : NULL, s->n,
                     s->out + p.row * s->n, p.first, p.last);
}

void psm_securenn_finish(const psm_holders *h, u64 own, const psm_holders *pair, u64 base, u64 before,
                         u64 after, const u64 *a, const u64 *delta, const u64 *eta, u64 *out, size_t n) {
    STEP(finish_task, h->count, LONG, .h = h, .pair = pair, .own = own, .base = base,
         .before = before, .after = after, .in = a, .in2 = delta, .in3 = eta, .out = out);
}

TASK(double_task) {
    PART;
    size_t at = p.row * s->n;
    s->k->odd_double(p.key, s->own, s->in + at, s->out + at, p.first, p.last);
}

void psm_securenn_double(const psm_holders *h, u64 stream, const u64 *y, u64 *out, size_t n) {
    STEP(double_task, h->count, LONG, .h = h, .own = stream, .in = y, .out = out);
}

TASK(opened_task) {
    PART;
    size_t at = p.row * s->n;
    s->k->odd_opened(s->in, s->in2 + at, s->out + at, p.first, p.last);
}

void psm_securenn_opened(size_t rows, const u64 *sum, const u64 *messages, u64 *out, size_t n) {
    STEP(opened_task, rows, LONG, .in = sum, .in2 = messages, .out = out);
}
