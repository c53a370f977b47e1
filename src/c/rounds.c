/* See rounds.h.  The split into tasks depends on n alone, so that results do not
 * depend on the number of threads. */
#include "rounds.h"

#include <string.h>

#include "dispatch.h"
#include "pool.h"

/* packed words a task, of 64 elements: where an element takes a fraction of a nanosecond, and where it takes some */
enum { GRAIN = 64, FINE = 16 };

static psm_divisor psm_divisor_make(u64 d) {
    psm_divisor out = {0};
    unsigned log = 0;
    while (log < 64 && ((u128)1 << log) < d) log++;
    out.offset_quotient = ((u64)1 << 62) / d;
    out.offset = out.offset_quotient * d;
    out.magic = (u64)((((u128)1 << 64) * (((u128)1 << log) - d)) / d + 1);
    out.shift1 = log < 1 ? log : 1;
    out.shift2 = log > 1 ? log - 1 : 0;
    if (d > 1 && (d & (d - 1)) == 0) out.power = log;
    return out;
}

/* Everything a step may need; each task takes what is its own. */
typedef struct {
    const psm_kernels *k;
    const psm_holders *h;
    u64 base, other, offset, factor;
    const psm_divisor *d;
    const psm_known *x, *y;
    const psm_angles *angles;
    const psm_window *window;
    int flip, nodes, known;
    unsigned halves;
    const u64 *in, *in2, *in3, *in4, *corrections;
    u64 *out, *out2;
    size_t n, words, rows, ranges, grain;
} step;

typedef struct {
    size_t row, begin, end; /* packed words */
    size_t first, last;     /* elements */
    const psm_aes_key *key;
    const u64 *corrections;
    int lead;
} part;

static part part_of(const step *s, size_t index) {
    part p;
    p.row = index % s->rows; /* what is public is read for one holder soon after the other */
    p.begin = index / s->rows * s->grain;
    p.end = p.begin + s->grain < s->words ? p.begin + s->grain : s->words;
    p.first = p.begin * 64;
    p.last = p.end * 64 < s->n ? p.end * 64 : s->n;
    p.key = s->h->keys ? s->h->keys + p.row : NULL;
    p.corrections = (ptrdiff_t)p.row == s->h->target ? s->corrections : NULL;
    p.lead = (ptrdiff_t)p.row == s->h->lead;
    return p;
}

/* run for each range, and for each hosted holder or (dealing) once */
static void run(step *s, size_t rows, void (*task)(void *, size_t)) {
    s->k = psm_kernels_get();
    s->words = (s->n + 63) / 64;
    s->rows = rows;
    if (!s->grain) s->grain = GRAIN;
    s->ranges = (s->words + s->grain - 1) / s->grain;
    /* waking a thread costs more than a small step */
    if (rows * s->words <= 2 * s->grain)
        for (size_t i = 0; i < rows * s->ranges; i++) task(s, i);
    else
        psm_parallel(rows * s->ranges, task, s);
}

#define STEP(name, rows, ...)                                                                      \
    do {                                                                                           \
        step s = {.h = h, .n = n, __VA_ARGS__};                                                    \
        run(&s, rows, name);                                                                       \
    } while (0)

#define TASK(name) static void name(void *context, size_t index)
#define PART                                                                                       \
    const step *s = context;                                                                       \
    part p = part_of(s, index);                                                                    \
    (void)p

TASK(draw_task) {
    PART;
    u64 *out = s->out + p.row * s->n + p.first;
    if (p.corrections) {
        if (out != p.corrections + p.first) memcpy(out, p.corrections + p.first, (p.last - p.first) * sizeof(u64));
    } else
        s->k->prg_fill(p.key, s->base, p.first, out, p.last - p.first);
}

static void psm_draw(const psm_holders *h, u64 stream, const u64 *corrections, u64 *out, size_t n) {
    STEP(draw_task, h->count, .base = stream, .corrections = corrections, .out = out);
}

TASK(mask_task) {
    PART;
    size_t at = p.row * s->n + p.first;
    s->k->prg_sub(p.key, s->base, p.first, s->in + at, s->out + at, p.last - p.first);
}

static void psm_mask(const psm_holders *h, u64 stream, const u64 *x, u64 *out, size_t n) {
    STEP(mask_task, h->count, .base = stream, .in = x, .out = out);
}

TASK(deal_sum_task) {
    PART;
    u64 *out = s->out + p.first;
    size_t m = p.last - p.first;
    s->k->prg_fill(&s->h->keys[0], s->base, p.first, out, m);
    for (size_t i = 1; i < s->h->count; i++)
        s->k->prg_add(&s->h->keys[i], s->base, p.first, out, out, m);
}

static void psm_deal_sum(const psm_holders *h, u64 stream, u64 *out, size_t n) {
    STEP(deal_sum_task, 1, .base = stream, .out = out);
}

TASK(deal_take_task) {
    PART;
    u64 *out = s->out + p.first;
    for (size_t i = 0; i + 1 < s->h->count; i++)
        s->k->prg_sub(&s->h->keys[i], s->base, p.first, out, out, p.last - p.first);
}

static void psm_deal_take(const psm_holders *h, u64 stream, u64 *acc, size_t n) {
    STEP(deal_take_task, 1, .base = stream, .out = acc);
}

TASK(truncate_deal_task) {
    PART;
    s->k->truncate_deal(s->h->keys, s->h->count, s->base, *s->d, s->in, s->factor, p.first, p.last,
                        s->out, s->n);
}

static void psm_step_truncate_deal(const psm_holders *h, u64 base, psm_divisor d, const u64 *owed,
                                   u64 factor, u64 *corrections, size_t n) {
    STEP(truncate_deal_task, 1, .base = base, .d = &d, .in = owed, .factor = factor, .out = corrections);
}

TASK(truncate_mask_task) {
    PART;
    size_t next = s->halves ? (s->n + 1) / 2 : s->n; /* words of a message */
    s->k->truncate_mask(p.key, s->base, p.lead ? s->offset : 0, s->factor, s->in + p.row * s->n,
                        s->out + p.row * next, s->halves, p.first, p.last);
}

static void psm_step_truncate_mask(const psm_holders *h, u64 base, u64 offset, u64 factor,
                                   const u64 *z, u64 *out, unsigned halves, size_t n) {
    STEP(truncate_mask_task, h->count, .base = base, .offset = offset, .factor = factor, .in = z,
         .out = out, .halves = halves);
}

TASK(truncate_finish_task) {
    PART;
    s->k->truncate_finish(p.key, s->base, *s->d, p.lead, s->in, s->halves, p.corrections,
                          s->in2 ? s->in2 + p.row * s->n : NULL, s->out + p.row * s->n, p.first,
                          p.last, s->n);
}

static void psm_step_truncate_finish(const psm_holders *h, u64 base, psm_divisor d, const u64 *c,
                                     unsigned halves, const u64 *corrections, const u64 *x, u64 *out,
                                     size_t n) {
    STEP(truncate_finish_task, h->count, .base = base, .d = &d, .in = c, .halves = halves, .in2 = x,
         .corrections = corrections, .out = out);
}

TASK(beaver_mul_task) {
    PART;
    size_t at = p.row * s->n + p.first;
    s->k->beaver_mul(s->in + p.first, s->in2 + at, s->in3 + at, s->in4 + p.first, s->out + at,
                     p.last - p.first);
}

static void psm_step_beaver_mul(const psm_holders *h, const u64 *d, const u64 *y, const u64 *a,
                                const u64 *e, u64 *z, size_t n) {
    STEP(beaver_mul_task, h->count, .in = d, .in2 = y, .in3 = a, .in4 = e, .out = z);
}

TASK(beaver_square_task) {
    PART;
    size_t at = p.row * s->n + p.first;
    s->k->beaver_square(s->in + p.first, s->in2 + at, s->in3 + at, s->out + at, p.last - p.first);
}

static void psm_step_beaver_square(const psm_holders *h, const u64 *d, const u64 *x, const u64 *a,
                                   u64 *z, size_t n) {
    STEP(beaver_square_task, h->count, .in = d, .in2 = x, .in3 = a, .out = z);
}

static const psm_holders nobody = {NULL, 0, -1, -1};

TASK(add_task) {
    PART;
    s->k->add(s->in + p.first, s->in2 + p.first, s->out + p.first, p.last - p.first);
}

static void psm_flat_add(const u64 *x, const u64 *y, u64 *out, size_t n) {
    const psm_holders *h = &nobody;
    STEP(add_task, 1, .in = x, .in2 = y, .out = out);
}

TASK(sub_task) {
    PART;
    s->k->sub(s->in + p.first, s->in2 + p.first, s->out + p.first, p.last - p.first);
}

static void psm_flat_sub(const u64 *x, const u64 *y, u64 *out, size_t n) {
    const psm_holders *h = &nobody;
    STEP(sub_task, 1, .in = x, .in2 = y, .out = out);
}

TASK(scale_task) {
    PART;
    s->k->scale(s->in + p.first, s->base, s->out + p.first, p.last - p.first);
}

static void psm_flat_scale(const u64 *x, u64 factor, u64 *out, size_t n) {
    const psm_holders *h = &nobody;
    STEP(scale_task, 1, .in = x, .base = factor, .out = out);
}

TASK(rows_sum_task) {
    PART;
    u64 *out = s->out + p.first;
    size_t m = p.last - p.first;
    memcpy(out, s->in + p.first, m * sizeof(u64));
    for (size_t row = 1; row < s->base; row++)
        s->k->add(out, s->in + row * s->n + p.first, out, m);
}

static void psm_flat_rows_sum(const u64 *x, size_t rows, u64 *out, size_t n) {
    const psm_holders *h = &nobody;
    STEP(rows_sum_task, 1, .in = x, .base = rows, .out = out);
}

TASK(affine_deal_task) {
    PART;
    s->k->affine_deal(s->h->keys, s->h->count, s->base, s->x, s->y, s->n, p.first, p.last, s->out);
}

static void psm_step_affine_deal(const psm_holders *h, u64 base, const psm_known *x, const psm_known *y,
                                 u64 *corrections, size_t n) {
    STEP(affine_deal_task, 1, .grain = FINE, .base = base, .x = x, .y = y, .out = corrections);
}

TASK(affine_finish_task) {
    PART;
    size_t row = p.row * s->n;
    s->k->affine_finish(p.key, s->base, s->x, s->y, p.lead, s->in + row, s->in2 + row, p.corrections, s->out + row,
                        s->n, p.first, p.last);
}

static void psm_step_affine_finish(const psm_holders *h, u64 base, const psm_known *x, const psm_known *y,
                                   const u64 *xs, const u64 *ys, const u64 *corrections, u64 *out, size_t n) {
    STEP(affine_finish_task, h->count, .grain = FINE, .base = base, .x = x, .y = y, .in = xs, .in2 = ys,
         .corrections = corrections, .out = out);
}

TASK(reopen_deal_task) {
    PART;
    s->k->reopen_deal(s->h->keys, s->h->count, s->base, s->d->power, p.first, p.last, s->out, s->n);
}

static void psm_step_reopen_deal(const psm_holders *h, u64 base, psm_divisor d, u64 *corrections, size_t n) {
    STEP(reopen_deal_task, 1, .base = base, .d = &d, .out = corrections);
}

TASK(reopen_mask_task) {
    PART;
    size_t row = p.row * s->n;
    s->k->reopen_mask(p.key, s->base, s->d->power, p.lead ? s->d->offset : 0, s->in + row, p.corrections, s->out + row,
                      p.first, p.last);
}

static void psm_step_reopen_mask(const psm_holders *h, u64 base, psm_divisor d, const u64 *z, const u64 *corrections,
                                 u64 *out, size_t n) {
    STEP(reopen_mask_task, h->count, .base = base, .d = &d, .in = z, .corrections = corrections, .out = out);
}

TASK(reopen_finish_task) {
    PART;
    s->k->reopen_finish(p.key, s->base, *s->d, p.lead, s->in, p.corrections, s->out + p.row * s->n, p.first, p.last,
                        s->n);
}

static void psm_step_reopen_finish(const psm_holders *h, u64 base, psm_divisor d, const u64 *c, const u64 *corrections,
                                   u64 *out, size_t n) {
    STEP(reopen_finish_task, h->count, .base = base, .d = &d, .in = c, .corrections = corrections, .out = out);
}

TASK(reopen_message_task) {
    PART;
    s->k->reopen_message(p.key, s->base, *s->d, p.lead, s->in, s->in2 + p.row * s->n,
                         s->out + p.row * ((s->n + 3) / 4), p.first, p.last);
}

static void psm_step_reopen_message(const psm_holders *h, u64 base, psm_divisor d, const u64 *c, const u64 *v, u64 *out,
                                    size_t n) {
    STEP(reopen_message_task, h->count, .base = base, .d = &d, .in = c, .in2 = v, .out = out);
}

TASK(reopen_opened_task) {
    PART;
    s->k->reopen_opened(*s->d, s->in, s->in2, s->out, p.first, p.last);
}

static void psm_step_reopen_opened(psm_divisor d, const u64 *c, const u64 *lanes, u64 *out, size_t n) {
    const psm_holders *h = &nobody;
    STEP(reopen_opened_task, 1, .d = &d, .in = c, .in2 = lanes, .out = out);
}

TASK(weighted_task) {
    PART;
    s->k->weighted(s->in, s->in2 + p.row * s->base * s->n, s->base, s->out + p.row * s->n, s->n, p.first, p.last);
}

static void psm_flat_weighted(const u64 *factors, const u64 *words, size_t rows, size_t count, u64 *out, size_t n) {
    const psm_holders *h = &nobody;
    STEP(weighted_task, rows, .grain = FINE, .in = factors, .in2 = words, .base = count, .out = out);
}

TASK(combinations_task) {
    PART;
    s->k->combinations(s->in + p.row * s->base * s->n, s->base, s->in2, p.lead ? s->in3 : NULL, s->other,
                       s->out + p.row * s->offset, s->n, p.first, p.last);
}

static void psm_flat_combinations(const u64 *x, size_t rows, size_t count, const u64 *weights, const u64 *constants,
                                  size_t sums, ptrdiff_t lead, u64 *out, size_t next, size_t n) {
    const psm_holders *h = &(psm_holders){NULL, 0, lead, -1};
    STEP(combinations_task, rows, .grain = FINE, .in = x, .base = count, .in2 = weights, .in3 = constants, .other = sums,
         .out = out, .offset = next);
}

TASK(turns_task) {
    PART;
    s->k->turns(s->in, s->base, s->out, s->n, p.first, p.last);
}

static void psm_flat_turns(const u64 *phase, size_t count, u64 *out, size_t n) {
    const psm_holders *h = &nobody;
    STEP(turns_task, 1, .grain = FINE, .in = phase, .base = count, .out = out);
}

TASK(turns_deal_task) {
    PART;
    s->k->turns_deal(s->h->keys, s->h->count, s->other, s->base, s->angles, s->out, s->n, p.first, p.last);
}

static void psm_step_turns_deal(const psm_holders *h, u64 mask, u64 stream, psm_angles a, u64 *corrections, size_t n) {
    STEP(turns_deal_task, 1, .grain = FINE, .other = mask, .base = stream, .angles = &a, .out = corrections);
}

/* what is public of a sum, at the holder who adds it */
static void constants(const step *s, part p) {
    for (size_t row = 0; row < s->h->count; row++) {
        u64 first = (ptrdiff_t)row == s->h->lead ? s->offset : 0;
        for (size_t i = p.first; i < p.last; i++) s->out[row * s->n + i] = first;
    }
}

/* all holders at once: the factors are the same ones */
TASK(turns_combine_task) {
    PART;
    constants(s, p);
    s->k->turns_combine(s->h->keys, s->h->count, s->h->target, s->base, s->corrections, s->in, s->in2, s->angles,
                        s->out, s->n, p.first, p.last);
}

static void psm_step_turns_combine(const psm_holders *h, u64 stream, const u64 *corrections, const u64 *c,
                                   const u64 *coefficients, psm_angles a, u64 constant, u64 *out, size_t n) {
    STEP(turns_combine_task, 1, .grain = FINE, .base = stream, .corrections = corrections, .in = c,
         .in2 = coefficients, .angles = &a, .offset = constant, .out = out);
}

TASK(powers_dealt_task) {
    PART;
    s->k->powers_dealt(s->in, s->factor, (unsigned)s->base, (unsigned)s->other, s->out, s->n, p.first, p.last);
}

static void psm_flat_powers_dealt(const u64 *r, u64 factor, unsigned segments, unsigned shift, u64 *out, size_t n) {
    const psm_holders *h = &nobody;
    STEP(powers_dealt_task, 1, .grain = FINE, .in = r, .factor = factor, .base = segments, .other = shift, .out = out);
}

TASK(powers_public_task) {
    PART;
    s->k->powers_public(s->in, s->offset, s->factor, (unsigned)s->base, s->in2, s->in3, s->out, s->n, p.first, p.last);
}

static void psm_flat_powers_public(const u64 *c, u64 start, u64 factor, unsigned segments, const u64 *mantissas,
                                   const u64 *shifts, u64 *out, size_t n) {
    const psm_holders *h = &nobody;
    STEP(powers_public_task, 1, .grain = FINE, .in = c, .offset = start, .factor = factor, .base = segments,
         .in2 = mantissas, .in3 = shifts, .out = out);
}

TASK(powers_deal_task) {
    PART;
    s->k->powers_deal(s->h->keys, s->h->count, s->other, s->base, s->window, s->out, s->n, p.first, p.last);
}

static void psm_step_powers_deal(const psm_holders *h, u64 mask, u64 stream, psm_window a, u64 *corrections, size_t n) {
    STEP(powers_deal_task, 1, .grain = FINE, .other = mask, .base = stream, .window = &a, .out = corrections);
}

/* all holders at once: the factors are the same ones */
TASK(powers_combine_task) {
    PART;
    constants(s, p);
    s->k->powers_combine(s->h->keys, s->h->count, s->h->target, s->base, s->corrections, s->in, s->window, s->in2,
                         s->in3, s->out, s->n, p.first, p.last);
}

static void psm_step_powers_combine(const psm_holders *h, u64 stream, const u64 *corrections, const u64 *c,
                                    psm_window a, const u64 *mantissas, const u64 *shifts, u64 constant, u64 *out,
                                    size_t n) {
    STEP(powers_combine_task, 1, .grain = FINE, .base = stream, .corrections = corrections, .in = c, .window = &a,
         .in2 = mantissas, .in3 = shifts, .offset = constant, .out = out);
}

TASK(gaussian_task) {
    PART;
    s->k->gaussian(s->in, s->in2, s->base, s->factor, s->out, s->out2, p.first, p.last);
}

static void psm_flat_gaussian(const u64 *words, const u64 *thresholds, size_t count, u64 factor, u64 *z, u64 *tied,
                              size_t n) {
    const psm_holders *h = &nobody;
    STEP(gaussian_task, 1, .grain = FINE, .in = words, .in2 = thresholds, .base = count, .factor = factor, .out = z,
         .out2 = tied);
}

TASK(encode_task) {
    PART;
    u64 *out = s->out + p.first;
    s->k->encode(s->in, (unsigned)s->other, (double)((u64)1 << s->factor), s->out, p.first, p.last);
    for (size_t other = 0; other + 1 < s->h->count; other++)
        s->k->prg_sub(&s->h->keys[other], s->base, p.first, out, out, p.last - p.first);
}

static void psm_step_encode(const psm_holders *h, u64 stream, const u64 *values, unsigned size, unsigned bits, u64 *out,
                            size_t n) {
    STEP(encode_task, 1, .base = stream, .in = values, .other = size, .factor = bits, .out = out);
}

/* Sizes of compare.inc.h for `nodes` nodes, in rows of packed words.  Corrections are those of
 * chunks (not where another comparison's are `known`), nodes and root, one after the other. */
static size_t deal_rows(int part_index, size_t nodes) {
    if (part_index == 0) return 15 * (4 * nodes - 1) + 8;
    if (part_index == 1) return 22 * nodes - 7;
    return nodes > 1 ? 15 : 0;
}

static size_t message_rows(int round, size_t nodes) {
    if (round == 0) return 7 * nodes - 1;
    if (round == 1) return nodes > 1 ? 6 : 1;
    return nodes > 1 ? 1 : 0;
}

static size_t psm_compare_message(int nodes, int round, size_t n) {
    return message_rows(round, (size_t)nodes) * ((n + 63) / 64);
}

static size_t psm_compare_corrections(int nodes, int part_index, size_t n) {
    return deal_rows(part_index, (size_t)nodes) * ((n + 63) / 64);
}

static size_t psm_compare_state(int nodes, size_t n) { return (size_t)(nodes + 1) * ((n + 63) / 64); }

/* where the part of the corrections begins */
static size_t deal_at(const step *s, int part_index) {
    size_t rows = s->known ? 0 : deal_rows(0, (size_t)s->nodes);
    if (part_index == 2) rows += deal_rows(1, (size_t)s->nodes);
    return rows * s->words;
}

TASK(compare_deal_task) {
    PART;
    s->k->compare_deal(s->h->keys, s->h->count, s->base, s->nodes, s->in, s->n, p.begin, p.end,
                       s->known ? NULL : s->out, s->out + deal_at(s, 1), s->out + deal_at(s, 2));
}

static void psm_step_compare_deal(const psm_holders *h, u64 base, int nodes, int known, const u64 *masks,
                                  u64 *corrections, size_t n) {
    STEP(compare_deal_task, 1, .grain = FINE, .base = base, .nodes = nodes, .known = known, .in = masks,
         .out = corrections);
}

TASK(compare_chunks_task) {
    PART;
    s->k->compare_chunks(p.key, s->base, s->other, s->nodes, p.lead, p.corrections, s->in, s->offset, s->n,
                         p.begin, p.end, s->out + p.row * (size_t)(s->nodes + 1) * s->words,
                         s->out2 + p.row * message_rows(0, (size_t)s->nodes) * s->words);
}

static void psm_step_compare_chunks(const psm_holders *h, u64 base, u64 known, int nodes, const u64 *corrections,
                                    const u64 *c, u64 offset, u64 *state, u64 *message, size_t n) {
    STEP(compare_chunks_task, h->count, .grain = FINE, .base = base, .other = known, .nodes = nodes,
         .corrections = corrections, .in = c, .offset = offset, .out = state, .out2 = message);
}

TASK(compare_nodes_task) {
    PART;
    size_t nodes = (size_t)s->nodes;
    const u64 *corrections = p.corrections ? p.corrections + deal_at(s, 1) : NULL;
    s->k->compare_nodes(p.key, s->base, s->nodes, p.lead, corrections, s->in, p.begin, p.end,
                        s->in2 + p.row * (nodes + 1) * s->words, s->out + p.row * s->words,
                        s->out2 + p.row * message_rows(1, nodes) * s->words);
}

static void psm_step_compare_nodes(const psm_holders *h, u64 base, int nodes, int known, const u64 *corrections,
                                   const u64 *opened, const u64 *state, u64 *sign, u64 *message, size_t n) {
    STEP(compare_nodes_task, h->count, .grain = FINE, .base = base, .nodes = nodes, .known = known,
         .corrections = corrections, .in = opened, .in2 = state, .out = sign, .out2 = message);
}

TASK(compare_root_task) {
    PART;
    const u64 *corrections = p.corrections ? p.corrections + deal_at(s, 2) : NULL;
    s->k->compare_root(p.key, s->base, p.lead, corrections, s->in, p.begin, p.end,
                       s->in2 + p.row * s->words, s->out2 + p.row * s->words);
}

static void psm_step_compare_root(const psm_holders *h, u64 base, int nodes, int known, const u64 *corrections,
                                  const u64 *opened, const u64 *sign, u64 *message, size_t n) {
    STEP(compare_root_task, h->count, .base = base, .nodes = nodes, .known = known, .corrections = corrections,
         .in = opened, .in2 = sign, .out2 = message);
}

TASK(bit_deal_task) {
    PART;
    s->k->bit_deal(s->h->keys, s->h->count, s->other, s->base, s->n, p.begin, p.end, s->out);
}

static void psm_step_bit_deal(const psm_holders *h, u64 rho, u64 stream, u64 *corrections, size_t n) {
    STEP(bit_deal_task, 1, .grain = FINE, .base = stream, .other = rho, .out = corrections);
}

static void psm_step_bit_share(const psm_holders *h, const u64 *beta, const u64 *rho, u64 *out, size_t n) {
    const psm_kernels *k = psm_kernels_get();
    for (size_t row = 0; row < h->count; row++)
        k->bit_share(beta, rho + row * n, (ptrdiff_t)row == h->lead, out + row * n, n);
}

TASK(select_deal_task) {
    PART;
    s->k->select_deal(s->h->keys, s->h->count, s->base, s->other, s->d, s->n, p.begin, p.end,
                      s->out);
}

static void psm_step_select_deal(const psm_holders *h, u64 base, u64 rho, const psm_divisor *d,
                          u64 *corrections, size_t n) {
    STEP(select_deal_task, 1, .grain = FINE, .base = base, .other = rho, .d = d, .out = corrections);
}

TASK(select_finish_task) {
    PART;
    s->k->select_finish(p.key, s->base, s->d, p.lead, s->flip, s->in, s->in2,
                        s->in3 + p.row * s->n, p.corrections, s->out + p.row * s->n, s->n, p.begin,
                        p.end);
}

static void psm_step_select_finish(const psm_holders *h, u64 base, const psm_divisor *d, int flip,
                            const u64 *c, const u64 *beta, const u64 *rho, const u64 *corrections,
                            u64 *out, size_t n) {
    STEP(select_finish_task, h->count, .grain = FINE, .base = base, .d = d, .flip = flip, .in = c,
         .in2 = beta, .in3 = rho, .corrections = corrections, .out = out);
}

const psm_steps psm_steps_table = {
    .divisor_make = psm_divisor_make,
    .draw = psm_draw,
    .mask = psm_mask,
    .deal_sum = psm_deal_sum,
    .deal_take = psm_deal_take,
    .truncate_deal = psm_step_truncate_deal,
    .truncate_mask = psm_step_truncate_mask,
    .truncate_finish = psm_step_truncate_finish,
    .affine_deal = psm_step_affine_deal,
    .affine_finish = psm_step_affine_finish,
    .reopen_deal = psm_step_reopen_deal,
    .reopen_mask = psm_step_reopen_mask,
    .reopen_finish = psm_step_reopen_finish,
    .reopen_message = psm_step_reopen_message,
    .reopen_opened = psm_step_reopen_opened,
    .beaver_mul = psm_step_beaver_mul,
    .beaver_square = psm_step_beaver_square,
    .add = psm_flat_add,
    .sub = psm_flat_sub,
    .scale = psm_flat_scale,
    .rows_sum = psm_flat_rows_sum,
    .weighted = psm_flat_weighted,
    .combinations = psm_flat_combinations,
    .turns = psm_flat_turns,
    .turns_deal = psm_step_turns_deal,
    .turns_combine = psm_step_turns_combine,
    .powers_dealt = psm_flat_powers_dealt,
    .powers_public = psm_flat_powers_public,
    .powers_deal = psm_step_powers_deal,
    .powers_combine = psm_step_powers_combine,
    .gaussian = psm_flat_gaussian,
    .encode = psm_step_encode,
    .compare_message = psm_compare_message,
    .compare_corrections = psm_compare_corrections,
    .compare_state = psm_compare_state,
    .compare_deal = psm_step_compare_deal,
    .compare_chunks = psm_step_compare_chunks,
    .compare_nodes = psm_step_compare_nodes,
    .compare_root = psm_step_compare_root,
    .bit_deal = psm_step_bit_deal,
    .bit_share = psm_step_bit_share,
    .select_deal = psm_step_select_deal,
    .select_finish = psm_step_select_finish,
};
