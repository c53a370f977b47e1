/* With x = d + a and y = e + b, where d and e are open and the dealer knows the
 * masks a and b,
 *     x y = d y + a e + a b = x e + d b + a b,
 * so a holder needs its share of one mask only: that of the smaller body is drawn
 * again from its stream, which is cheaper than keeping it.
 */
#include "product.h"

#include "direct.h"
#include "matmul.h"
#include "pool.h"
#include "work.h"

enum { BLOCK = 1 << 16 }; /* words of a gathered block */

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
static void multiply_rows(const psm_product *p, const u64 *x, psm_view y, size_t entry, u64 *out,
                          int accumulate, u64 *space, u64 *work) {
    size_t step = block_rows(p->k);
    for (size_t at = 0; at < p->m; at += step) {
        size_t rows = p->m - at < step ? p->m - at : step;
        psm_view block = gather(&p->x, x, entry, at, rows, p->k, space);
        psm_matmul(rows, p->n, p->k, block, y, out + at * p->n, (ptrdiff_t)p->n, accumulate, work);
    }
}

/* y is gathered: a block of the contracted axis at a time */
static void multiply_depth(const psm_product *p, psm_view x, const u64 *y, size_t entry, u64 *out,
                           int accumulate, u64 *space, u64 *work) {
    size_t step = block_rows(p->n);
    for (size_t at = 0; at < p->k; at += step, accumulate = 1, x.data += (ptrdiff_t)step * x.col) {
        size_t rows = p->k - at < step ? p->k - at : step;
        psm_view block = gather(&p->y, y, entry, at, rows, p->n, space);
        psm_matmul(p->m, p->n, rows, x, block, out, (ptrdiff_t)p->n, accumulate, work);
    }
}

/* words of work for `total` in parts of `step`, of which the last may be smaller and yet need more */
static size_t parts_work(const psm_product *p, int by_rows, size_t total, size_t step) {
    size_t sizes[] = {total < step ? total : step, total % step}, most = 0;
    for (int i = 0; i < 2; i++) {
        size_t words = by_rows ? psm_matmul_work(sizes[i], p->n, p->k) : psm_matmul_work(p->m, p->n, sizes[i]);
        most = words > most ? words : most;
    }
    return most;
}

/* Where both factors are gathered, the smaller one is gathered whole. */
static int multiply(const psm_product *p, const u64 *x, const u64 *y, u64 *out, int accumulate) {
    if (psm_direct_fits(p)) return psm_direct(p, x, y, out, accumulate);
    int gx = p->x.rows != NULL, gy = p->y.rows != NULL, by_rows = gx && (!gy || p->m > p->n);
    size_t need = by_rows ? parts_work(p, 1, p->m, block_rows(p->k))
                : gy ? parts_work(p, 0, p->k, block_rows(p->n)) : psm_matmul_work(p->m, p->n, p->k);
    u64 *work = psm_work(0, need), *space = NULL, *whole = NULL;
    if (gx || gy) space = psm_work(3, BLOCK + 8 * ((by_rows ? p->k : p->n) + 1));
    if (gx && gy) whole = psm_work(4, p->k * (by_rows ? p->n : p->m));
    if (!work || ((gx || gy) && !space) || (gx && gy && !whole)) return -1;
    for (size_t i = 0; i < p->batch; i++) {
        u64 *c = out + i * p->m * p->n;
        if (by_rows) {
            psm_view right = gy ? gather(&p->y, y, i, 0, p->k, p->n, whole) : matrix(&p->y, y, i);
            multiply_rows(p, x, right, i, c, accumulate, space, work);
        } else if (gy && p->k) {
            psm_view left = gx ? gather(&p->x, x, i, 0, p->m, p->k, whole) : matrix(&p->x, x, i);
            multiply_depth(p, left, y, i, c, accumulate, space, work);
        } else {
            psm_matmul(p->m, p->n, p->k, matrix(&p->x, x, i), matrix(&p->y, y, i), c,
                       (ptrdiff_t)p->n, accumulate, work);
        }
    }
    return 0;
}

int psm_product_masks(const psm_holders *h, const psm_product *p, u64 *out) {
    int same = p->x.stream == p->y.stream;
    u64 *a = psm_work(1, p->x.n), *b = same ? a : psm_work(2, p->y.n);
    if (!a || !b) return -1;
    psm_steps_table.deal_sum(h, p->x.stream, a, p->x.n);
    if (!same) psm_steps_table.deal_sum(h, p->y.stream, b, p->y.n);
    return multiply(p, a, b, out, 0);
}

int psm_product_deal(const psm_holders *h, const psm_product *p, u64 stream, u64 *corrections) {
    if (psm_product_masks(h, p, corrections)) return -1;
    psm_steps_table.deal_take(h, stream, corrections, p->batch * p->m * p->n);
    return 0;
}

static int combine(const psm_holders *h, const psm_product *p, u64 *out, int accumulate) {
    int left = p->x.n <= p->y.n;
    const psm_factor *small = left ? &p->x : &p->y;
    size_t size = p->batch * p->m * p->n;
    u64 *mask = psm_work(1, small->n);
    if (!mask) return -1;
    for (size_t i = 0; i < h->count; i++) {
        psm_holders one = {h->keys + i, 1, -1, -1};
        const u64 *x = p->x.shares + i * p->x.n, *y = p->y.shares + i * p->y.n;
        psm_steps_table.draw(&one, small->stream, NULL, mask, small->n);
        if (multiply(p, left ? mask : x, p->y.opened, out + i * size, accumulate) ||
            multiply(p, p->x.opened, left ? y : mask, out + i * size, 1))
            return -1;
    }
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
