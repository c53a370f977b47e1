/* With x = d + a and y = e + b, where d and e are open and the dealer knows the
 * masks a and b,
 *     x y = d y + a e + a b = x e + d b + a b,
 * so a holder needs its share of one mask only: that of the smaller body is drawn
 * again from its stream, which is cheaper than keeping it.
 */
#include "product.h"

#include "matmul.h"
#include "work.h"

static psm_view matrix(const psm_factor *f, const u64 *data, size_t entry) {
    psm_view v = {data + f->offsets[entry], f->row, f->col};
    return v;
}

static int multiply(const psm_product *p, const u64 *x, const u64 *y, u64 *out, int accumulate) {
    u64 *work = psm_work(0, psm_matmul_work(p->m, p->n, p->k));
    if (!work) return -1;
    for (size_t i = 0; i < p->batch; i++)
        psm_matmul(p->m, p->n, p->k, matrix(&p->x, x, i), matrix(&p->y, y, i),
                   out + i * p->m * p->n, (ptrdiff_t)p->n, accumulate, work);
    return 0;
}

int psm_product_deal(const psm_holders *h, const psm_product *p, u64 stream, u64 *corrections) {
    int same = p->x.stream == p->y.stream;
    u64 *a = psm_work(1, p->x.n), *b = same ? a : psm_work(2, p->y.n);
    if (!a || !b) return -1;
    psm_steps_table.deal_sum(h, p->x.stream, a, p->x.n);
    if (!same) psm_steps_table.deal_sum(h, p->y.stream, b, p->y.n);
    if (multiply(p, a, b, corrections, 0)) return -1;
    psm_steps_table.deal_take(h, stream, corrections, p->batch * p->m * p->n);
    return 0;
}

int psm_product_combine(const psm_holders *h, const psm_product *p, u64 stream,
                        const u64 *corrections, u64 *out) {
    int left = p->x.n <= p->y.n;
    const psm_factor *small = left ? &p->x : &p->y;
    size_t size = p->batch * p->m * p->n;
    u64 *mask = psm_work(1, small->n);
    if (!mask) return -1;
    psm_steps_table.draw(h, stream, corrections, out, size);
    for (size_t i = 0; i < h->count; i++) {
        psm_holders one = {h->keys + i, 1, -1, -1};
        const u64 *x = p->x.shares + i * p->x.n, *y = p->y.shares + i * p->y.n;
        psm_steps_table.draw(&one, small->stream, NULL, mask, small->n);
        if (multiply(p, left ? mask : x, p->y.opened, out + i * size, 1) ||
            multiply(p, p->x.opened, left ? y : mask, out + i * size, 1))
            return -1;
    }
    return 0;
}
