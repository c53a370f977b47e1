/* See matmul.h.
 *
 * A block packs its own rows of A and columns of B, so blocks are as few as keep the
 * threads busy and as square as powers of two allow.
 */
#include "matmul.h"

#include <stdatomic.h>

#include "dispatch.h"
#include "pool.h"
#include "work.h"

/* products a block at least; rows or columns of a block at least */
enum { GRAIN = 1 << 18, LEAST_SIDE = 32 };

static size_t divide_up(size_t n, size_t by) { return (n + by - 1) / by; }

int psm_shared_out(size_t blocks, size_t threads) {
    return blocks >= 2 * threads || blocks % threads == 0;
}

psm_grid psm_matmul_grid(size_t m, size_t n, size_t depth, size_t copies) {
    psm_grid g = {m, n, m, n, 1, 1};
    size_t threads = (size_t)psm_get_threads();

    while (!psm_shared_out(g.blocks * copies, threads) && (double)g.rows * g.cols * depth >= 2.0 * GRAIN) {
        size_t *side = g.rows > g.cols ? &g.rows : &g.cols;
        if (*side < 2 * LEAST_SIDE) break;
        *side = LEAST_SIDE / 2 * divide_up(*side, LEAST_SIDE);
        g.across = divide_up(n, g.cols);
        g.blocks = divide_up(m, g.rows) * g.across;
    }
    return g;
}

int psm_matmul_block(const psm_grid *g, size_t index, size_t k, psm_view a, psm_view b, u64 *c,
                     ptrdiff_t ldc, int accumulate) {
    const psm_kernels *kernels = psm_kernels_get();
    size_t i = index / g->across * g->rows, j = index % g->across * g->cols;
    size_t rows = g->m - i < g->rows ? g->m - i : g->rows;
    size_t cols = g->n - j < g->cols ? g->n - j : g->cols;
    u64 *work = psm_work(0, kernels->matmul_work(rows, cols, k));

    if (!work) return -1;
    a.data += (ptrdiff_t)i * a.row;
    b.data += (ptrdiff_t)j * b.col;
    kernels->matmul(rows, cols, k, a, b, c + (ptrdiff_t)i * ldc + (ptrdiff_t)j, ldc, accumulate, work);
    return 0;
}

typedef struct {
    psm_grid grid;
    size_t k;
    psm_view a, b;
    u64 *c;
    ptrdiff_t ldc;
    int accumulate;
    atomic_int failed;
} product;

static void run_block(void *context, size_t index) {
    product *p = context;

    if (psm_matmul_block(&p->grid, index, p->k, p->a, p->b, p->c, p->ldc, p->accumulate))
        atomic_store(&p->failed, 1);
}

int psm_matmul(size_t m, size_t n, size_t k, psm_view a, psm_view b, u64 *c, ptrdiff_t ldc,
               int accumulate) {
    product p = {psm_matmul_grid(m, n, k, 1), k, a, b, c, ldc, accumulate, 0};

    psm_parallel(p.grid.blocks, run_block, &p);
    return -atomic_load(&p.failed);
}
