/* With x = d + a and y = e + b, where d and e are open and the dealer knows the
 * masks a and b,
 *     x y = d y + a e + a b = x e + d b + a b,
 * so a holder needs its share of one mask only: that of the smaller body is drawn
 * again from its stream, which is cheaper than keeping it.
 */
#include "product.h"

#include <stdatomic.h>
#include <string.h>

#include "direct.h"
#include "matmul.h"
#include "pool.h"
#include "work.h"

enum {
    BLOCK = 1 << 16, /* words of a gathered block */
    SMALL = 1 << 17, /* products that one thread does sooner than it wakes another */
};

static psm_view matrix(const psm_factor *f, const u64 *data, size_t entry) {
    psm_view v = {data + f->offsets[entry], f->row, f->col};
    return v;
}

typedef struct {
    const psm_factor *f;
    const u64 *data;
    ptrdiff_t offset;
    size_t first, rows, cols, each;
    u64 *out;
} block;

static void gather_rows(void *context, size_t index) {
    const block *b = context;
    const psm_factor *f = b->f;
    size_t end = (index + 1) * b->each < b->rows ? (index + 1) * b->each : b->rows;
    for (size_t i = index * b->each; i < end; i++) {
        ptrdiff_t at = b->offset + f->rows[b->first + i];
        u64 *out = b->out + i * b->cols;
        if (!f->map)
            for (size_t j = 0; j < b->cols; j++) out[j] = b->data[at + f->cols[j]];
        else
            for (size_t j = 0; j < b->cols; j++) {
                ptrdiff_t from = f->map[at + f->cols[j]];
                out[j] = from < 0 ? 0 : b->data[from];
            }
    }
}

/* rows [first, first + rows) of a gathered factor, row major */
static psm_view gather(const psm_factor *f, const u64 *data, size_t entry, size_t first,
                       size_t rows, size_t cols, u64 *out) {
    block b = {f, data, f->offsets[entry], first, rows, cols, 1 + 4096 / (cols + 1), out};
    psm_parallel((rows + b.each - 1) / b.each, gather_rows, &b);
    return (psm_view){out, (ptrdiff_t)cols, 1};
}

static size_t block_rows(size_t cols) {
    size_t rows = BLOCK / (cols + 1);
    return rows < 8 ? 8 : rows;
}

/* x of one batch entry is gathered: a block of rows of the result at a time */
static int multiply_rows(const psm_product *p, const u64 *x, psm_view y, size_t entry, u64 *out,
                         int accumulate, u64 *space) {
    int failed = 0;
    size_t step = block_rows(p->k);
    for (size_t at = 0; at < p->m; at += step) {
        size_t rows = p->m - at < step ? p->m - at : step;
        psm_view block = gather(&p->x, x, entry, at, rows, p->k, space);
        failed |= psm_matmul(rows, p->n, p->k, block, y, out + at * p->n, (ptrdiff_t)p->n, accumulate);
    }
    return failed;
}

/* y is gathered: a block of the contracted axis at a time */
static int multiply_depth(const psm_product *p, psm_view x, const u64 *y, size_t entry, u64 *out,
                          int accumulate, u64 *space) {
    int failed = 0;
    size_t step = block_rows(p->n);
    for (size_t at = 0; at < p->k; at += step, accumulate = 1, x.data += (ptrdiff_t)step * x.col) {
        size_t rows = p->k - at < step ? p->k - at : step;
        psm_view block = gather(&p->y, y, entry, at, rows, p->n, space);
        failed |= psm_matmul(p->m, p->n, rows, x, block, out, (ptrdiff_t)p->n, accumulate);
    }
    return failed;
}

/* Factors of which one at least is gathered; where both are, the smaller one whole. */
static int multiply_gathered(const psm_product *p, const u64 *x, const u64 *y, u64 *out, int accumulate) {
    int gx = p->x.rows != NULL, gy = p->y.rows != NULL, by_rows = gx && (!gy || p->m > p->n), failed = 0;
    u64 *space = psm_work(3, BLOCK + 8 * ((by_rows ? p->k : p->n) + 1)), *whole = NULL;
    if (gx && gy) whole = psm_work(4, p->k * (by_rows ? p->n : p->m));
    if (!space || (gx && gy && !whole)) return -1;
    for (size_t i = 0; i < p->batch; i++) {
        u64 *c = out + i * p->m * p->n;
        if (by_rows) {
            psm_view right = gy ? gather(&p->y, y, i, 0, p->k, p->n, whole) : matrix(&p->y, y, i);
            failed |= multiply_rows(p, x, right, i, c, accumulate, space);
        } else if (p->k) {
            psm_view left = gx ? gather(&p->x, x, i, 0, p->m, p->k, whole) : matrix(&p->x, x, i);
            failed |= multiply_depth(p, left, y, i, c, accumulate, space);
        } else if (!accumulate) {
            memset(c, 0, p->m * p->n * sizeof(u64));
        }
    }
    return failed;
}

static int multiply(const psm_product *p, const u64 *x, const u64 *y, u64 *out, int accumulate) {
    return psm_direct_fits(p) ? psm_direct(p, x, y, out, accumulate)
                              : multiply_gathered(p, x, y, out, accumulate);
}

/* Products of matrices that are not gathered, for each holder and batch entry:
 * out[h] (+)= x[0][h] @ y[0][h] + x[1][h] @ y[1][h], with body words from one holder to the next. */
typedef struct {
    const psm_product *p;
    psm_grid grid;
    size_t terms;
    const u64 *x[2], *y[2];
    size_t x_next[2], y_next[2];
    u64 *out;
    int accumulate;
    atomic_int failed;
} sums;

static void sums_task(void *context, size_t index) {
    sums *s = context;
    const psm_product *p = s->p;
    size_t block = index % s->grid.blocks, result = index / s->grid.blocks;
    size_t holder = result / p->batch, entry = result % p->batch;
    for (size_t t = 0; t < s->terms; t++) {
        psm_view x = matrix(&p->x, s->x[t] + holder * s->x_next[t], entry);
        psm_view y = matrix(&p->y, s->y[t] + holder * s->y_next[t], entry);
        if (psm_matmul_block(&s->grid, block, p->k, x, y, s->out + result * p->m * p->n, (ptrdiff_t)p->n,
                             s->accumulate || t))
            atomic_store(&s->failed, 1);
    }
}

static int sum_up(sums *s, size_t holders) {
    const psm_product *p = s->p;
    size_t results = holders * p->batch;
    s->grid = psm_matmul_grid(p->m, p->n, s->terms * p->k, results);
    if ((double)results * p->m * p->n * p->k * s->terms < SMALL)
        for (size_t i = 0; i < results * s->grid.blocks; i++) sums_task(s, i);
    else
        psm_parallel(results * s->grid.blocks, sums_task, s);
    return -atomic_load(&s->failed);
}

static int gathered(const psm_product *p) { return p->x.rows || p->y.rows; }

int psm_product_masks(const psm_holders *h, const psm_product *p, u64 *out) {
    int same = p->x.stream == p->y.stream;
    u64 *a = psm_work(1, p->x.n), *b = same ? a : psm_work(2, p->y.n);
    if (!a || !b) return -1;
    psm_steps_table.deal_sum(h, p->x.stream, a, p->x.n);
    if (!same) psm_steps_table.deal_sum(h, p->y.stream, b, p->y.n);
    if (gathered(p)) return multiply(p, a, b, out, 0);
    sums s = {.p = p, .terms = 1, .x = {a}, .y = {b}, .out = out};
    return sum_up(&s, 1);
}

int psm_product_deal(const psm_holders *h, const psm_product *p, u64 stream, u64 *corrections) {
    if (psm_product_masks(h, p, corrections)) return -1;
    psm_steps_table.deal_take(h, stream, corrections, p->batch * p->m * p->n);
    return 0;
}

static int combine(const psm_holders *h, const psm_product *p, u64 *out, int accumulate) {
    int left = p->x.n <= p->y.n;
    const psm_factor *small = left ? &p->x : &p->y;
    psm_holders all = {h->keys, h->count, -1, -1};
    size_t size = p->batch * p->m * p->n;
    u64 *mask = psm_work(1, h->count * small->n);
    if (!mask) return -1;
    psm_steps_table.draw(&all, small->stream, NULL, mask, small->n);
    const u64 *x = left ? mask : p->x.shares, *y = left ? p->y.shares : mask;
    if (!gathered(p)) {
        sums s = {p, {0}, 2, {x, p->x.opened}, {p->y.opened, y}, {p->x.n, 0}, {0, p->y.n}, out, accumulate, 0};
        return sum_up(&s, h->count);
    }
    for (size_t i = 0; i < h->count; i++)
        if (multiply(p, x + i * p->x.n, p->y.opened, out + i * size, accumulate) ||
            multiply(p, p->x.opened, y + i * p->y.n, out + i * size, 1))
            return -1;
    return 0;
}

int psm_product_combine(const psm_holders *h, const psm_product *p, u64 stream,
                        const u64 *corrections, u64 *out) {
    psm_steps_table.draw(h, stream, corrections, out, p->batch * p->m * p->n);
    return combine(h, p, out, 1);
}

int psm_product_part(const psm_holders *h, const psm_product *p, u64 *out) {
    return combine(h, p, out, 0);
}
