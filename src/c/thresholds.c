/* See thresholds.h.  A task is a fixed number of elements, for all ends, so that what they share stays in cache. */
#include "thresholds.h"

#include "dispatch.h"
#include "pool.h"

enum { GRAIN = 16, RHO_SHARES = 5, RHO = 14 }; /* packed words a task; streams of compare.inc.h */

#define COMPARED psm_steps_table

typedef struct {
    const psm_kernels *k;
    const psm_holders *h;
    psm_ends ends;
    int nodes, known;
    u64 base;
    const u64 *corrections, *in, *in2, *in3;
    u64 *out, *out2;
    size_t n, words, rows, monomials, node, root, sums, row, between;
} call;

typedef struct {
    size_t row, begin, end;
    const psm_aes_key *key;
    const u64 *corrections;
    int lead;
} part;

static part part_of(const call *c, size_t index) {
    part p = {.row = index % c->rows, .begin = index / c->rows * GRAIN};
    p.end = c->words - p.begin < GRAIN ? c->words : p.begin + GRAIN;
    p.key = c->h->keys + p.row;
    p.corrections = (ptrdiff_t)p.row == c->h->target ? c->corrections : NULL;
    p.lead = (ptrdiff_t)p.row == c->h->lead;
    return p;
}

static void run(call *c, size_t rows, void (*task)(void *, size_t)) {
    c->k = psm_kernels_get();
    c->words = (c->n + 63) / 64;
    c->rows = rows;
    c->monomials = c->known ? 0 : COMPARED.compare_corrections(c->nodes, 0, c->n);
    c->node = COMPARED.compare_corrections(c->nodes, 1, c->n);
    c->root = COMPARED.compare_corrections(c->nodes, 2, c->n);
    psm_parallel(rows * ((c->words + GRAIN - 1) / GRAIN), task, c);
}

#define RUN(task, holders, ...)                                                                    \
    do {                                                                                           \
        call c = {.h = h, .ends = ends, .n = n, __VA_ARGS__};                                      \
        run(&c, holders, task);                                                                    \
    } while (0)

#define TASK(name)                                                                                 \
    static void name(void *context, size_t index) {                                                \
        const call *c = context;                                                                   \
        part p = part_of(c, index);

static u64 stream(const call *c, size_t j) {
    return j ? c->ends.rest + (j - 1) * c->ends.apart : c->ends.first;
}

/* where the corrections of an end begin, with those of its nodes */
static size_t dealt_at(const call *c, size_t j) { return c->monomials + j * (c->node + c->root + c->n); }

TASK(deal_task)
    for (size_t j = 0; j < c->ends.count; j++) {
        u64 base = stream(c, j), *node = c->out + dealt_at(c, j), *root = node + c->node;
        c->k->compare_deal(c->h->keys, c->h->count, base, c->nodes, NULL, c->n, p.begin, p.end,
                           j || c->known ? NULL : c->out, node, root);
        c->k->bit_deal(c->h->keys, c->h->count, base + RHO, base + RHO_SHARES, c->n, p.begin, p.end, root + c->root);
    }
}

void psm_thresholds_deal(const psm_holders *h, psm_ends ends, int nodes, int known, u64 *corrections, size_t n) {
    RUN(deal_task, 1, .nodes = nodes, .known = known, .out = corrections);
}

TASK(chunks_task)
    size_t state = COMPARED.compare_state(c->nodes, c->n), message = COMPARED.compare_message(c->nodes, 0, c->n);
    c->k->thresholds_chunks(p.key, c->base, c->ends.first, c->ends.rest, c->ends.apart, c->nodes, p.lead, p.corrections,
                            c->in, c->in2, c->ends.count, c->n, p.begin, p.end,
                            c->out + p.row * c->ends.count * state, c->out2 + p.row * c->ends.count * message);
}

void psm_thresholds_chunks_all(const psm_holders *h, psm_ends ends, u64 known, int nodes, const u64 *monomials,
                               const u64 *c, const u64 *offsets, u64 *state, u64 *message, size_t n) {
    const u64 *opened = c;
    RUN(chunks_task, h->count, .base = known, .nodes = nodes, .corrections = monomials, .in = opened, .in2 = offsets,
        .out = state, .out2 = message);
}

TASK(nodes_task)
    size_t opened = COMPARED.compare_message(c->nodes, 0, c->n), state = COMPARED.compare_state(c->nodes, c->n);
    size_t message = COMPARED.compare_message(c->nodes, 1, c->n);
    for (size_t j = 0; j < c->ends.count; j++) {
        size_t at = p.row * c->ends.count + j;
        c->k->compare_nodes(p.key, stream(c, j), c->nodes, p.lead, p.corrections ? p.corrections + dealt_at(c, j) : NULL,
                            c->in + j * opened, p.begin, p.end, c->in2 + at * state, c->out + at * c->words,
                            c->out2 + at * message);
    }
}

void psm_thresholds_nodes(const psm_holders *h, psm_ends ends, int nodes, int known, const u64 *corrections,
                          const u64 *opened, const u64 *state, u64 *sign, u64 *message, size_t n) {
    RUN(nodes_task, h->count, .nodes = nodes, .known = known, .corrections = corrections, .in = opened, .in2 = state,
        .out = sign, .out2 = message);
}

TASK(root_task)
    size_t opened = COMPARED.compare_message(c->nodes, 1, c->n), message = COMPARED.compare_message(c->nodes, 2, c->n);
    for (size_t j = 0; j < c->ends.count; j++) {
        size_t at = p.row * c->ends.count + j;
        const u64 *corrections = p.corrections ? p.corrections + dealt_at(c, j) + c->node : NULL;
        c->k->compare_root(p.key, stream(c, j), p.lead, corrections, c->in + j * opened, p.begin, p.end,
                           c->in2 + at * c->words, c->out2 + at * message);
    }
}

void psm_thresholds_root(const psm_holders *h, psm_ends ends, int nodes, int known, const u64 *corrections,
                         const u64 *opened, const u64 *sign, u64 *message, size_t n) {
    RUN(root_task, h->count, .nodes = nodes, .known = known, .corrections = corrections, .in = opened, .in2 = sign,
        .out2 = message);
}

TASK(sums_task)
    const u64 *corrections = p.corrections ? p.corrections + dealt_at(c, 0) + c->node + c->root : NULL;
    c->k->thresholds_sums(p.key, c->ends.first, c->ends.rest, c->ends.apart, p.lead, corrections,
                          c->node + c->root + c->n, c->in, c->ends.count, c->in2, c->in3, c->sums, c->n, p.begin, p.end,
                          c->out + p.row * c->row, c->between);
}

void psm_thresholds_sums_all(const psm_holders *h, psm_ends ends, int nodes, int known, const u64 *corrections,
                             const u64 *betas, const u64 *weights, const u64 *constants, size_t sums, size_t row,
                             size_t between, u64 *out, size_t n) {
    RUN(sums_task, h->count, .nodes = nodes, .known = known, .corrections = corrections, .in = betas, .in2 = weights,
        .in3 = constants, .sums = sums, .row = row, .between = between, .out = out);
}
