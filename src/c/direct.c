/* See direct.h.  A mapped operand is copied once as its map says, padding and all, with
 * slack behind it; that is the size of an image, not of its windows. */
#include "direct.h"

#include <string.h>

#include "dispatch.h"
#include "pool.h"
#include "work.h"

enum { LANES_RUN = 8, DOTS_RUN = 32, SEGMENT = 1024, PARTS = 8, COPY = 1 << 13 };

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static ptrdiff_t row_at(const psm_factor *f, size_t i) {
    return f->rows ? f->rows[i] : (ptrdiff_t)i * f->row;
}

static ptrdiff_t col_at(const psm_factor *f, size_t j) {
    return f->cols ? f->cols[j] : (ptrdiff_t)j * f->col;
}

/* words of k that both operands have in a row; 0 where that does not pay */
static size_t along(const psm_product *p) {
    if (p->m > psm_kernels_get()->dots_rows) return 0;
    size_t run = least(p->x.col_run, p->y.row_run);
    return run >= DOTS_RUN && p->x.col_run % run == 0 && p->y.row_run % run == 0 && p->k % run == 0 ? run : 0;
}

/* words of n that the second has in a row; 0 where that does not pay */
static size_t across(const psm_product *p) {
    size_t run = p->m <= psm_kernels_get()->lanes_rows ? p->y.col_run : 0;
    return run >= LANES_RUN && p->n % run == 0 ? run : 0;
}

int psm_direct_fits(const psm_product *p) {
    if (!(p->x.rows || p->y.rows) || !p->m || !p->n || !p->k) return 0;
    return along(p) || across(p);
}

typedef struct {
    const ptrdiff_t *map;
    const u64 *data;
    u64 *out;
    size_t n;
} copy;

static void copy_task(void *context, size_t index) {
    const copy *c = context;
    size_t end = least((index + 1) * COPY, c->n);
    if (!c->map) {
        memcpy(c->out + index * COPY, c->data + index * COPY, (end - index * COPY) * sizeof(u64));
        return;
    }
    for (size_t i = index * COPY; i < end; i++) c->out[i] = c->map[i] < 0 ? 0 : c->data[c->map[i]];
}

/* the words that positions refer to, as the map says, with slack behind them */
static const u64 *copied(const psm_factor *f, const u64 *data, int slot) {
    size_t n = f->map ? f->size : f->n;
    copy c = {f->map, data, psm_work(slot, n + 8), n};
    if (!c.out) return NULL;
    psm_parallel((n + COPY - 1) / COPY, copy_task, &c);
    memset(c.out + n, 0, 8 * sizeof(u64));
    return c.out;
}

const u64 *psm_placed(const psm_factor *f, const u64 *data, int slot) {
    return f->map ? copied(f, data, slot) : data;
}

/* the same, with slack where a run is read beyond its end */
static const u64 *placed(const psm_factor *f, const u64 *data, size_t run, int slot) {
    return f->map || run % 8 ? copied(f, data, slot) : data;
}

typedef struct {
    const psm_kernels *kernels;
    const psm_factor *f;
    size_t m, n, k, run, pieces;
    const u64 *a, *b;
    const ptrdiff_t *taps;
    u64 *out;
    int accumulate;
} lanes;

static void lanes_task(void *context, size_t index) {
    const lanes *l = context;
    size_t at = index / l->pieces * l->run + index % l->pieces * SEGMENT;
    size_t count = least(SEGMENT, l->run - index % l->pieces * SEGMENT);
    l->kernels->lanes(l->m, l->k, l->a, l->b + col_at(l->f, at), l->taps, count, l->out + at, l->n, l->accumulate);
}

static int by_lanes(const psm_product *p, const u64 *x, const u64 *y, u64 *out, int accumulate) {
    size_t run = across(p), pieces = (run + SEGMENT - 1) / SEGMENT;
    const u64 *b = placed(&p->y, y, run, 3);
    u64 *a = psm_work(0, p->m * p->k + p->k);
    if (!b || !a) return -1;
    ptrdiff_t *taps = (ptrdiff_t *)(a + p->m * p->k);
    for (size_t j = 0; j < p->k; j++) taps[j] = row_at(&p->y, j);
    for (size_t entry = 0; entry < p->batch; entry++) {
        for (size_t i = 0; i < p->m; i++)
            for (size_t j = 0; j < p->k; j++) {
                ptrdiff_t at = p->x.offsets[entry] + row_at(&p->x, i) + col_at(&p->x, j);
                ptrdiff_t from = p->x.map ? p->x.map[at] : at;
                a[j * p->m + i] = from < 0 ? 0 : x[from];
            }
        lanes l = {psm_kernels_get(), &p->y, p->m, p->n, p->k, run, pieces, a, b + p->y.offsets[entry], taps,
                   out + entry * p->m * p->n, accumulate};
        psm_parallel(p->n / run * pieces, lanes_task, &l);
    }
    return 0;
}

typedef struct {
    const psm_kernels *kernels;
    const psm_product *p;
    size_t run, runs, parts;
    const u64 *a, *b;
    const ptrdiff_t *offsets, *taps;
    u64 *sums;
} dots;

static void dots_task(void *context, size_t index) {
    const dots *d = context;
    const psm_product *p = d->p;
    u64 *sums = d->sums + index * 8 * p->m * p->n;
    memset(sums, 0, 8 * p->m * p->n * sizeof(u64));
    for (size_t r = d->runs * index / d->parts; r < d->runs * (index + 1) / d->parts; r++)
        for (size_t at = 0; at < d->run; at += SEGMENT) {
            size_t first = r * d->run + at, count = least(SEGMENT, d->run - at);
            d->kernels->dots(p->m, p->n, count, d->a + col_at(&p->x, first), d->offsets,
                             d->b + row_at(&p->y, first), d->taps, sums);
        }
}

static int by_dots(const psm_product *p, const u64 *x, const u64 *y, u64 *out, int accumulate) {
    size_t run = along(p), runs = p->k / run, size = p->m * p->n;
    size_t parts = psm_get_threads() == 1 ? 1 : least(PARTS, runs);
    const u64 *a = placed(&p->x, x, run, 4), *b = placed(&p->y, y, run, 3);
    u64 *sums = psm_work(0, 8 * size * parts + p->m + p->n);
    if (!a || !b || !sums) return -1;
    ptrdiff_t *offsets = (ptrdiff_t *)(sums + 8 * size * parts), *taps = offsets + p->m;
    for (size_t i = 0; i < p->m; i++) offsets[i] = row_at(&p->x, i);
    for (size_t j = 0; j < p->n; j++) taps[j] = col_at(&p->y, j);
    for (size_t entry = 0; entry < p->batch; entry++, out += size) {
        dots d = {psm_kernels_get(), p, run, runs, parts, a + p->x.offsets[entry], b + p->y.offsets[entry],
                  offsets, taps, sums};
        psm_parallel(parts, dots_task, &d);
        for (size_t i = 0; i < size; i++) {
            u64 sum = accumulate ? out[i] : 0;
            for (size_t part = 0; part < parts; part++)
                for (int lane = 0; lane < 8; lane++) sum += sums[8 * (part * size + i) + (size_t)lane];
            out[i] = sum;
        }
    }
    return 0;
}

int psm_direct(const psm_product *p, const u64 *x, const u64 *y, u64 *out, int accumulate) {
    return along(p) > across(p) ? by_dots(p, x, y, out, accumulate) : by_lanes(p, x, y, out, accumulate);
}
