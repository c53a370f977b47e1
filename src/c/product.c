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
#include "dispatch.h"
#include "filtering.h"
#include "matmul.h"
#include "pool.h"
#include "work.h"

enum {
    BLOCK = 1 << 15, /* words of a gathered block */
    DEPTH = 384,     /* products of a word at a time */
    UNIT = 16,       /* what rows and columns of a block are multiples of */
    SHORT = 8,       /* runs that are not worth a call of memcpy */
    SMALL = 1 << 17, /* products that one thread does sooner than it wakes another */
};

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static size_t divide_up(size_t n, size_t by) { return (n + by - 1) / by; }

static psm_view matrix(const psm_factor *f, const u64 *data, size_t entry) {
    psm_view v = {data + f->offsets[entry], f->row, f->col};
    return v;
}

/* Lines of words in a row out of words at positions, `run` of which at a time follow one another:
 * out[i * length + j] = data[lines[i] + places[j]], for j from `from` on */
static void copy_lines(const u64 *data, const ptrdiff_t *lines, size_t count, const ptrdiff_t *places, size_t from,
                       size_t length, size_t run, u64 *out) {
    for (size_t i = 0; i < count; i++, out += length) {
        const u64 *line = data + lines[i];
        if (run < SHORT) {
            for (size_t j = 0; j < length; j++) out[j] = line[places[from + j]];
            continue;
        }
        for (size_t j = 0, n; j < length; j += n) {
            n = least(run - (from + j) % run, length - j);
            memcpy(out + j, line + places[from + j], n * sizeof(u64));
        }
    }
}

/* A part of a factor's matrix: where it lies, or gathered in `space`, along the longer runs */
static psm_view part(const psm_factor *f, const u64 *data, size_t entry, size_t row, size_t rows, size_t col,
                     size_t cols, u64 *space) {
    if (!f->rows) {
        psm_view v = matrix(f, data, entry);
        v.data += (ptrdiff_t)row * v.row + (ptrdiff_t)col * v.col;
        return v;
    }
    data += f->offsets[entry];
    if (f->row_run > f->col_run) {
        copy_lines(data, f->cols + col, cols, f->rows, row, rows, f->row_run, space);
        return (psm_view){space, 1, (ptrdiff_t)rows};
    }
    copy_lines(data, f->rows + row, rows, f->cols, col, cols, f->col_run, space);
    return (psm_view){space, (ptrdiff_t)cols, 1};
}

/* A product in blocks of rows x cols words of the result, `depth` products of each at a time; data without a map */
typedef struct {
    const psm_product *p;
    const u64 *x, *y;
    size_t rows, cols, depth, down, across;
    u64 *out;
    int accumulate;
    atomic_int failed;
} blocks;

static void block_task(void *context, size_t index) {
    blocks *b = context;
    const psm_product *p = b->p;
    const psm_kernels *kernels = psm_kernels_get();
    size_t entry = index / b->across / b->down;
    size_t i = index / b->across % b->down * b->rows, j = index % b->across * b->cols;
    size_t rows = least(b->rows, p->m - i), cols = least(b->cols, p->n - j);
    u64 *c = b->out + (entry * p->m + i) * p->n + j;
    u64 *work = psm_work(0, kernels->matmul_work(rows, cols, b->depth));
    u64 *left = psm_work(5, p->x.rows ? rows * b->depth : 0), *right = psm_work(6, p->y.rows ? cols * b->depth : 0);
    if (!work || !left || !right) {
        atomic_store(&b->failed, 1);
        return;
    }
    for (size_t at = 0; at == 0 || at < p->k; at += b->depth) { /* once if there is nothing to sum */
        size_t depth = least(b->depth, p->k - at);
        psm_view x = part(&p->x, b->x, entry, i, rows, at, depth, left);
        psm_view y = part(&p->y, b->y, entry, at, depth, j, cols, right);
        kernels->matmul(rows, cols, depth, x, y, c, (ptrdiff_t)p->n, b->accumulate || at, work);
    }
}

/* `tasks` of the products of one holder and batch entry, so many at a time */
static void run(const psm_product *p, size_t products, size_t tasks, void (*task)(void *, size_t), void *context) {
    if ((double)products * p->batch * p->m * p->n * p->k < SMALL)
        for (size_t i = 0; i < tasks; i++) task(context, i);
    else
        psm_parallel(tasks, task, context);
}

/* n in even parts of at most `most`, each a multiple of `unit` (which `most` may be below) */
static size_t even(size_t n, size_t most, size_t unit) {
    size_t parts = divide_up(n, most < unit ? unit : most);
    return parts ? unit * divide_up(divide_up(n, parts), unit) : unit;
}

/* Blocks of what is gathered. */
static void gathered_blocks(blocks *b) {
    const psm_product *p = b->p;
    size_t threads = (size_t)psm_get_threads(), side;
    b->depth = even(p->k, DEPTH, 1);
    side = BLOCK / b->depth / UNIT * UNIT;
    b->rows = p->x.rows ? even(p->m, side, UNIT) : p->m;
    b->cols = p->y.rows ? even(p->n, side, UNIT) : p->n;
    for (;;) {
        b->down = divide_up(p->m, b->rows ? b->rows : 1), b->across = divide_up(p->n, b->cols ? b->cols : 1);
        size_t *longer = b->rows > b->cols ? &b->rows : &b->cols;
        if (psm_shared_out(p->batch * b->down * b->across, threads) || *longer < 4 * UNIT) break;
        *longer = even(*longer, (*longer + 1) / 2, UNIT);
    }
}

static int multiply_gathered(const psm_product *p, const u64 *x, const u64 *y, u64 *out, int accumulate) {
    blocks b = {.p = p, .x = psm_placed(&p->x, x, 3), .y = psm_placed(&p->y, y, 4), .out = out,
                .accumulate = accumulate};
    if (!b.x || !b.y) return -1;
    psm_operands o = {.values = 1, .x = {b.x}, .y = {b.y}, .out = out, .accumulate = accumulate};
    int done = psm_filtering(p, &o);
    if (done <= 0) return done;
    gathered_blocks(&b);
    run(p, 1, p->batch * b.down * b.across, block_task, &b);
    return -atomic_load(&b.failed);
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
    run(p, holders * s->terms, results * s->grid.blocks, sums_task, s);
    return -atomic_load(&s->failed);
}

static int gathered(const psm_product *p) { return p->x.rows || p->y.rows; }

/* Whether there is nothing to multiply: bodies without words have no address.  Then out, if it has words, is
 * zeros, or what it was. */
static int empty(const psm_product *p, size_t holders, u64 *out, int accumulate) {
    size_t size = holders * p->batch * p->m * p->n;
    if (size && p->k && p->x.n && p->y.n) return 0;
    if (size && !accumulate) memset(out, 0, size * sizeof *out);
    return 1;
}

int psm_product_masks(const psm_holders *h, const psm_product *p, u64 *out) {
    if (empty(p, 1, out, 0)) return 0;
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

/* The products of two holders in one sweep, whose results are `next` words apart (matmul_pair of ring.h); data without a
 * map: what is public, and the holders' own. */
typedef struct {
    const psm_product *p;
    psm_grid grid;
    const u64 *x[3], *y[3];
    size_t next;
    u64 *out;
    int accumulate;
    atomic_int failed;
} pairs;

/* Three matrices of a factor, from a row and a column on */
static psm_places places(const psm_factor *f, const u64 *const data[3], size_t entry, size_t row, size_t col) {
    ptrdiff_t first = f->offsets[entry] + (f->rows ? 0 : (ptrdiff_t)row * f->row + (ptrdiff_t)col * f->col);
    return (psm_places){{data[0] + first, data[1] + first, data[2] + first}, f->row, f->col,
                        f->rows ? f->rows + row : NULL, f->rows ? f->cols + col : NULL};
}

static void pair_task(void *context, size_t index) {
    pairs *b = context;
    const psm_product *p = b->p;
    const psm_grid *g = &b->grid;
    const psm_kernels *kernels = psm_kernels_get();
    size_t entry = index / g->blocks, block = index % g->blocks;
    size_t i = block / g->across * g->rows, j = block % g->across * g->cols;
    size_t rows = least(g->rows, p->m - i), cols = least(g->cols, p->n - j);
    psm_places x = places(&p->x, b->x, entry, i, 0), y = places(&p->y, b->y, entry, 0, j);
    u64 *work = psm_work(0, kernels->matmul_pair_work(rows, cols, p->k));
    if (work)
        kernels->matmul_pair(rows, cols, p->k, &x, &y, b->out + (entry * p->m + i) * p->n + j, b->next, (ptrdiff_t)p->n,
                             b->accumulate, work);
    else
        atomic_store(&b->failed, 1);
}

/* Whether two holders' products are done in one sweep. */
static int paired(const psm_product *p) {
    enum { LEAST = 4 }; /* rows and columns */
    return psm_kernels_get()->matmul_pair && p->m >= LEAST && p->n >= LEAST && !(gathered(p) && psm_direct_fits(p));
}

/* out (+)= x @ e + d @ y of two holders, whose words follow one another in all three */
static int combine_pair(const psm_product *p, const u64 *x, const u64 *y, u64 *out, int accumulate) {
    static const int slots[2][3] = {{3, 7, 8}, {4, 9, 10}};
    pairs b = {.p = p, .grid = psm_matmul_grid(p->m, p->n, 4 * p->k, p->batch), .next = p->batch * p->m * p->n,
               .out = out, .accumulate = accumulate};
    for (size_t f = 0; f < 3; f++) {
        b.x[f] = psm_placed(&p->x, f ? x + (f - 1) * p->x.n : p->x.opened, slots[0][f]);
        b.y[f] = psm_placed(&p->y, f ? y + (f - 1) * p->y.n : p->y.opened, slots[1][f]);
        if (!b.x[f] || !b.y[f]) return -1;
    }
    psm_operands o = {3, {b.x[0], b.x[1], b.x[2]}, {b.y[0], b.y[1], b.y[2]}, out, b.next, accumulate};
    int done = psm_filtering(p, &o);
    if (done <= 0) return done;
    run(p, 4, p->batch * b.grid.blocks, pair_task, &b);
    return -atomic_load(&b.failed);
}

static int combine(const psm_holders *h, const psm_product *p, u64 *out, int accumulate) {
    if (empty(p, h->count, out, accumulate)) return 0;
    int left = p->x.n <= p->y.n;
    const psm_factor *small = left ? &p->x : &p->y;
    psm_holders all = {h->keys, h->count, -1, -1};
    size_t size = p->batch * p->m * p->n, i = 0;
    u64 *mask = psm_work(1, h->count * small->n);
    if (!mask) return -1;
    psm_steps_table.draw(&all, small->stream, NULL, mask, small->n);
    const u64 *x = left ? mask : p->x.shares, *y = left ? p->y.shares : mask;
    for (; paired(p) && i + 2 <= h->count; i += 2)
        if (combine_pair(p, x + i * p->x.n, y + i * p->y.n, out + i * size, accumulate)) return -1;
    if (!gathered(p)) {
        sums s = {p, {0}, 2, {x + i * p->x.n, p->x.opened}, {p->y.opened, y + i * p->y.n}, {p->x.n, 0}, {0, p->y.n},
                  out + i * size, accumulate, 0};
        return i < h->count ? sum_up(&s, h->count - i) : 0;
    }
    for (; i < h->count; i++)
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
