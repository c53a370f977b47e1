/* The ring product over the pool.
 *
 * C is cut into a grid of blocks, one task each, of at least GRAIN products and
 * as square as powers of two allow, since a task packs its own rows of A and
 * columns of B. The grid depends on the shape alone; a lone thread skips it and
 * saves the double packing. Either way the result is the same, exactly.
 */
#include "matmul.h"

#include "dispatch.h"
#include "pool.h"

enum { GRAIN = 1 << 21, MAX_TASKS = 16, LEAST_SIDE = 32 };

typedef struct {
    size_t rows, cols;       /* of a block */
    size_t down, across;     /* blocks */
} grid;

typedef struct {
    grid grid;
    size_t m, n, k, work_each;
    psm_view a, b;
    u64 *c, *work;
    ptrdiff_t ldc;
    int accumulate;
} product;

static size_t divide_up(size_t n, size_t by) { return (n + by - 1) / by; }

static grid grid_of(size_t m, size_t n, size_t k) {
    grid g = {m, n, 1, 1};

    while (g.down * g.across < MAX_TASKS && (double)g.rows * g.cols * k >= 2.0 * GRAIN) {
        size_t *side = g.rows > g.cols ? &g.rows : &g.cols;
        if (*side < 2 * LEAST_SIDE) break;
        *side = LEAST_SIDE / 2 * divide_up(*side, LEAST_SIDE);
        g.down = divide_up(m, g.rows);
        g.across = divide_up(n, g.cols);
    }
    return g;
}

static void run_block(void *ctx, size_t index) {
    const product *p = ctx;
    const grid *g = &p->grid;
    size_t i = index / g->across * g->rows, j = index % g->across * g->cols;
    size_t rows = p->m - i < g->rows ? p->m - i : g->rows;
    size_t cols = p->n - j < g->cols ? p->n - j : g->cols;
    psm_view a = p->a, b = p->b;

    a.data += (ptrdiff_t)i * a.row;
    b.data += (ptrdiff_t)j * b.col;
    psm_kernels_get()->matmul(rows, cols, p->k, a, b, p->c + (ptrdiff_t)i * p->ldc + (ptrdiff_t)j,
                              p->ldc, p->accumulate, p->work + index * p->work_each);
}

/* the kernel's need for a block, the smaller ones at the edges included */
static size_t work_each(const grid *g, size_t m, size_t n, size_t k) {
    size_t most = 0;
    size_t last_rows = m - (g->down - 1) * g->rows, last_cols = n - (g->across - 1) * g->cols;

    for (int corner = 0; corner < 4; corner++) {
        size_t words = psm_kernels_get()->matmul_work(corner & 1 ? last_rows : g->rows,
                                                      corner & 2 ? last_cols : g->cols, k);
        most = words > most ? words : most;
    }
    return most;
}

size_t psm_matmul_work(size_t m, size_t n, size_t k) {
    grid g = grid_of(m, n, k);
    size_t whole = psm_kernels_get()->matmul_work(m, n, k);
    size_t split = g.down * g.across * work_each(&g, m, n, k);

    return whole > split ? whole : split;
}

void psm_matmul(size_t m, size_t n, size_t k, psm_view a, psm_view b, u64 *c, ptrdiff_t ldc,
                int accumulate, u64 *work) {
    product p = {grid_of(m, n, k), m, n, k, 0, a, b, c, work, ldc, accumulate};

    if (psm_get_threads() == 1 || p.grid.down * p.grid.across == 1) {
        psm_kernels_get()->matmul(m, n, k, a, b, c, ldc, accumulate, work);
        return;
    }
    p.work_each = work_each(&p.grid, m, n, k);
    psm_parallel(p.grid.down * p.grid.across, run_block, &p);
}
