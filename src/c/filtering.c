/* See filtering.h.  Control flow and addresses follow from sizes and positions alone. */
#include "filtering.h"

#include <stdatomic.h>

#include "dispatch.h"
#include "matmul.h"
#include "pool.h"
#include "work.h"

enum {
    LANES = PSM_FILTER_LANES,
    SUMS = 36,
    DEPTH = 64,    /* channels at a time */
    ROWS = 128,    /* filters at a time */
    TURNED = 64,   /* the same for the gradient of a filter */
    TILES = 96,    /* tiles at a time: what a product of pairs takes at once */
    LEAST = 16,    /* filters and channels that are worth the sums; of a gradient of a filter TURNED */
    FEWEST = 256,  /* tiles */
    NOTHING = -1,  /* the position of a public zero */
};

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static size_t divide_up(size_t n, size_t by) { return (n + by - 1) / by; }

static size_t lanes(size_t n) { return LANES * divide_up(n, LANES); }

/* Words from one line of n to the next, and from one matrix of such lines to the next.  Neither is a multiple of a page,
 * after which words would share a set of the nearest cache. */
static size_t line(size_t n) { return lanes(n) + 8; }

static size_t matrix_words(size_t lines, size_t n) { return lines * line(n) + 24; }

/* n in even parts of at most `most`, of whole lanes */
static size_t even(size_t n, size_t most) { return lanes(divide_up(n, divide_up(n, most))); }

/* Windows of 3 x 3: tap 3 a + b of channel c at taps[9 c] + a down + b right, and place (i, j, l) of the results at
 * places[l] + i |down| + j |right|, for `inner` places l.  Tiles are numbered as places are, with l fastest. */
typedef struct {
    const ptrdiff_t *taps, *places;
    ptrdiff_t down, right;
    size_t channels, height, width, inner, across, tiles;
} windows;

static ptrdiff_t size_of(ptrdiff_t x) { return x < 0 ? -x : x; }

/* how many positions there are before one that is `step` beyond the first */
static size_t until(const ptrdiff_t *places, size_t count, size_t unit, ptrdiff_t step) {
    size_t n = 1;
    while (n < count && places[n * unit] - places[0] != step) n++;
    return n;
}

/* Whether all positions are of that kind. */
static int find(const ptrdiff_t *taps, size_t count, const ptrdiff_t *places, size_t n, windows *w) {
    if (!taps || !places || !n || !count || count % 9) return 0;
    *w = (windows){.taps = taps, .places = places, .down = taps[3] - taps[0], .right = taps[1] - taps[0],
                   .channels = count / 9};
    if (!w->down || !w->right) return 0;
    for (size_t i = 0; i < count; i++) {
        ptrdiff_t tap = (ptrdiff_t)(i % 9);
        if (taps[i] - taps[i - i % 9] != tap / 3 * w->down + tap % 3 * w->right) return 0;
    }
    w->inner = until(places, n, 1, size_of(w->right));
    if (n % w->inner) return 0;
    w->width = until(places, n / w->inner, w->inner, size_of(w->down));
    if (n / w->inner % w->width) return 0;
    w->height = n / w->inner / w->width;
    for (size_t i = 0, at = 0; i < w->height; i++)
        for (size_t j = 0; j < w->width; j++)
            for (size_t l = 0; l < w->inner; l++, at++)
                if (places[at] - places[l] != (ptrdiff_t)i * size_of(w->down) + (ptrdiff_t)j * size_of(w->right)) return 0;
    w->across = divide_up(w->width, 3);
    w->tiles = divide_up(w->height, 3) * w->across * w->inner;
    return 1;
}

/* Whether that many rows of results, or of gradients, are worth it: half of the products are saved at least. */
static int pays(const windows *w, size_t rows, int turned) {
    size_t side = turned ? TURNED : LEAST;
    return rows >= side && w->channels >= side && w->tiles >= FEWEST && 8 * w->tiles <= w->height * w->width * w->inner;
}

/* the first word of a window, and which tap of a filter stands at place 3 a + b of it */
static ptrdiff_t corner(const windows *w, size_t channel) {
    return w->taps[9 * channel] + (w->down < 0 ? 2 * w->down : 0) + (w->right < 0 ? 2 * w->right : 0);
}

static size_t tap_at(const windows *w, size_t place) {
    size_t a = place / 3, b = place % 3;
    return 3 * (w->down < 0 ? 2 - a : a) + (w->right < 0 ? 2 - b : b);
}

/* Everything that tasks need.  The part that is computed: `rows` filters from `row` on, `depth` channels from `channel`
 * on, `span` tiles at a time. */
typedef struct {
    const psm_kernels *k;
    const psm_product *p;
    const psm_operands *o;
    windows w;
    size_t entry, row, rows, channel, depth, span;
    u64 *filters; /* sums of taps [values][36][depth][rows] */
    atomic_int *failed;
} filtering;

static size_t holders(const filtering *f) { return f->o->values == 3 ? 2 : 1; }

static ptrdiff_t row_at(const psm_factor *f, size_t i) { return f->rows ? f->rows[i] : (ptrdiff_t)i * f->row; }

static ptrdiff_t col_at(const psm_factor *f, size_t j) { return f->cols ? f->cols[j] : (ptrdiff_t)j * f->col; }

/* Positions [side * side][span] of the words of tiles from `first` on: for `side` 5 of windows, less their corner; for 3
 * the numbers of their places. */
static void tile_places(const windows *w, size_t side, size_t first, size_t span, ptrdiff_t *out) {
    for (size_t q = 0; q < span; q++) {
        size_t tile = first + q, l = tile % w->inner;
        size_t i = 3 * (tile / w->inner / w->across), j = 3 * (tile / w->inner % w->across);
        for (size_t u = 0; u < side; u++)
            for (size_t v = 0; v < side; v++) {
                int inside = tile < w->tiles && i + u < w->height + side - 3 && j + v < w->width + side - 3;
                ptrdiff_t at = side == 5 ? w->places[l] + (ptrdiff_t)(i + u) * size_of(w->down) +
                                               (ptrdiff_t)(j + v) * size_of(w->right)
                                         : (ptrdiff_t)(((i + u) * w->width + j + v) * w->inner + l);
                out[(u * side + v) * span + q] = inside ? at : NOTHING;
            }
    }
}

/* Whether positions [count][span] are fours that follow one another, or all of them nothing. */
static int in_fours(const ptrdiff_t *at, size_t count) {
    for (size_t q = 0; q < count; q++)
        if (at[q] != (at[q & ~(size_t)3] == NOTHING ? NOTHING : at[q & ~(size_t)3] + (ptrdiff_t)(q & 3))) return 0;
    return 1;
}

/* sums [values][36][depth][span] of the windows of tiles whose positions are given */
static void window_sums(const filtering *f, const ptrdiff_t *at, u64 *out) {
    size_t apart = matrix_words(f->depth, f->span);
    int fours = in_fours(at, 25 * f->span);
    for (size_t s = 0; s < f->o->values; s++, out += SUMS * apart)
        for (size_t c = 0; c < f->depth; c++) {
            ptrdiff_t from = corner(&f->w, f->channel + c);
            ptrdiff_t ahead = c + 1 < f->depth ? corner(&f->w, f->channel + c + 1) - from : 0;
            for (size_t q = 0; q < f->span; q += LANES)
                f->k->filter_windows(f->o->y[s] + f->p->y.offsets[f->entry] + from, at + q, f->span, fours, ahead,
                                     out + c * line(f->span) + q, apart);
        }
}

/* The product of one of the 36 matrices of sums, or those of two holders; a_next, b_next, c_next from one value to another */
static void multiply(const filtering *f, size_t m, size_t n, size_t k, psm_view a, size_t a_next, psm_view b,
                     size_t b_next, u64 *c, size_t c_next, size_t ldc, int accumulate, u64 *work) {
    if (f->o->values == 1) {
        f->k->matmul(m, n, k, a, b, c, (ptrdiff_t)ldc, accumulate, work);
        return;
    }
    psm_places x = {{a.data, a.data + a_next, a.data + 2 * a_next}, a.row, a.col, NULL, NULL};
    psm_places y = {{b.data, b.data + b_next, b.data + 2 * b_next}, b.row, b.col, NULL, NULL};
    f->k->matmul_pair(m, n, k, &x, &y, c, c_next, (ptrdiff_t)ldc, accumulate, work);
}

static u64 *matmul_work(const filtering *f, size_t m, size_t n, size_t k) {
    return psm_work(0, (f->o->values == 1 ? f->k->matmul_work : f->k->matmul_pair_work)(m, n, k));
}

/* sums of the taps of all filters of the part for one channel */
static void taps_task(void *context, size_t c) {
    filtering *f = context;
    const psm_factor *x = &f->p->x;
    size_t apart = matrix_words(f->depth, f->rows);
    ptrdiff_t at[9 * LANES];
    for (size_t i = 0; i < f->rows; i += LANES) {
        for (size_t t = 0; t < 9; t++)
            for (size_t q = 0; q < LANES; q++)
                at[t * LANES + q] = i + q < f->rows ? row_at(x, f->row + i + q) +
                                                          col_at(x, 9 * (f->channel + c) + tap_at(&f->w, t))
                                                    : NOTHING;
        for (size_t s = 0; s < f->o->values; s++)
            f->k->filter_taps(f->o->x[s] + x->offsets[f->entry], at, LANES, 0,
                              f->filters + s * SUMS * apart + c * line(f->rows) + i, apart);
    }
}

/* out [places] (+)= results [9][lanes] at positions `span` apart */
static void scatter(const u64 *found, const ptrdiff_t *at, size_t span, int fours, u64 *out, int accumulate) {
    for (size_t t = 0; t < 9; t++, at += span, found += LANES)
        if (fours)
            for (size_t q = 0; q < LANES; q += 4) {
                u64 *to = out + at[q];
                if (at[q] == NOTHING) continue;
                for (size_t i = 0; i < 4; i++) to[i] = found[q + i] + (accumulate ? to[i] : 0);
            }
        else
            for (size_t q = 0; q < LANES; q++)
                if (at[q] != NOTHING) out[at[q]] = found[q] + (accumulate ? out[at[q]] : 0);
}

/* the results of the part at a block of tiles */
static void tiles_task(void *context, size_t index) {
    filtering *f = context;
    size_t span = f->span, count = least(span, f->w.tiles - index * span), n = f->p->n;
    size_t a_words = matrix_words(f->depth, f->rows), b_words = matrix_words(f->depth, span);
    size_t c_words = matrix_words(f->rows, span);
    u64 *sums = psm_work(5, f->o->values * SUMS * b_words), *products = psm_work(6, holders(f) * SUMS * c_words);
    u64 found[9 * LANES];
    u64 *work = matmul_work(f, f->rows, count, f->depth);
    ptrdiff_t *at = (ptrdiff_t *)psm_work(12, 25 * span);
    if (!sums || !products || !work || !at) {
        atomic_store(f->failed, 1);
        return;
    }
    tile_places(&f->w, 5, index * span, span, at);
    window_sums(f, at, sums);
    for (size_t i = 0; i < SUMS; i++)
        multiply(f, f->rows, count, f->depth, (psm_view){f->filters + i * a_words, 1, (ptrdiff_t)line(f->rows)},
                 SUMS * a_words, (psm_view){sums + i * b_words, (ptrdiff_t)line(span), 1}, SUMS * b_words,
                 products + i * c_words, SUMS * c_words, line(span), 0, work);
    tile_places(&f->w, 3, index * span, span, at);
    int fours = in_fours(at, 9 * span);
    for (size_t h = 0; h < holders(f); h++)
        for (size_t i = 0; i < f->rows; i++)
            for (size_t q = 0; q < span; q += LANES) {
                f->k->filter_results(products + h * SUMS * c_words + i * line(span) + q, c_words, found);
                scatter(found, at + q, span, fours, f->o->out + h * f->o->next + (f->entry * f->p->m + f->row + i) * n,
                        f->o->accumulate || f->channel);
            }
}

/* Results of filters: a block of filters and of channels after the other, tiles shared out. */
static int forward(filtering *f) {
    size_t rows = least(even(f->p->m, ROWS), f->p->m), depth = least(even(f->w.channels, DEPTH), f->w.channels);
    f->span = even(f->w.tiles, TILES);
    f->filters = psm_work(11, f->o->values * SUMS * matrix_words(depth, rows));
    if (!f->filters) return -1;
    for (f->row = 0; f->row < f->p->m; f->row += rows)
        for (f->channel = 0; f->channel < f->w.channels; f->channel += depth) {
            f->rows = least(rows, f->p->m - f->row), f->depth = least(depth, f->w.channels - f->channel);
            psm_parallel(f->depth, taps_task, f);
            psm_parallel(divide_up(f->w.tiles, f->span), tiles_task, f);
        }
    return -atomic_load(f->failed);
}

/* sums [values][36][rows][span] of squares of gradients at positions within a row */
static void gradient_sums(const filtering *f, const ptrdiff_t *at, u64 *out) {
    const psm_factor *x = &f->p->x;
    size_t apart = matrix_words(f->rows, f->span);
    int fours = in_fours(at, 9 * f->span);
    for (size_t s = 0; s < f->o->values; s++, out += SUMS * apart)
        for (size_t i = 0; i < f->rows; i++) {
            const u64 *data = f->o->x[s] + x->offsets[f->entry] + row_at(x, f->row + i);
            for (size_t q = 0; q < f->span; q += LANES)
                f->k->filter_taps(data, at + q, f->span, fours, out + i * line(f->span) + q, apart);
        }
}

/* The gradients of taps of the part: products of all tiles, summed. */
static int taps_of(const filtering *f) {
    size_t span = f->span, wide = line(f->depth);
    size_t a_words = matrix_words(f->rows, span), b_words = matrix_words(f->depth, span);
    size_t c_words = matrix_words(f->rows, f->depth);
    u64 *sums = psm_work(5, f->o->values * SUMS * (a_words + b_words)), *products = psm_work(6, holders(f) * SUMS * c_words);
    u64 *work = matmul_work(f, f->rows, f->depth, span), found[9 * LANES];
    ptrdiff_t *at = (ptrdiff_t *)psm_work(12, 34 * span), *numbers = at + 25 * span;
    if (!sums || !products || !work || !at) return -1;
    u64 *other = sums + f->o->values * SUMS * a_words;
    for (size_t first = 0; first < f->w.tiles; first += span) {
        tile_places(&f->w, 5, first, span, at);
        tile_places(&f->w, 3, first, span, numbers);
        for (size_t i = 0; i < 9 * span; i++)
            if (numbers[i] != NOTHING) numbers[i] = col_at(&f->p->x, (size_t)numbers[i]);
        gradient_sums(f, numbers, sums);
        window_sums(f, at, other);
        for (size_t i = 0; i < SUMS; i++)
            multiply(f, f->rows, f->depth, span, (psm_view){sums + i * a_words, (ptrdiff_t)line(span), 1}, SUMS * a_words,
                     (psm_view){other + i * b_words, 1, (ptrdiff_t)line(span)}, SUMS * b_words, products + i * c_words,
                     SUMS * c_words, wide, first > 0, work);
    }
    for (size_t h = 0; h < holders(f); h++)
        for (size_t i = 0; i < f->rows; i++)
            for (size_t c = 0; c < f->depth; c += LANES) {
                u64 *out = f->o->out + h * f->o->next + (f->entry * f->p->m + f->row + i) * f->p->n;
                f->k->filter_results(products + h * SUMS * c_words + i * wide + c, c_words, found);
                for (size_t q = 0; q < LANES && c + q < f->depth; q++)
                    for (size_t t = 0; t < 9; t++) {
                        u64 *to = out + 9 * (f->channel + c + q) + tap_at(&f->w, t);
                        *to = found[t * LANES + q] + (f->o->accumulate ? *to : 0);
                    }
            }
    return 0;
}

static void gradient_task(void *context, size_t index) {
    filtering *f = context, part = *f;
    size_t across = divide_up(f->w.channels, f->depth);
    part.row = index / across * f->rows, part.channel = index % across * f->depth;
    part.rows = least(f->rows, f->p->m - part.row), part.depth = least(f->depth, f->w.channels - part.channel);
    if (taps_of(&part)) atomic_store(f->failed, 1);
}

/* Gradients of filters: blocks of filters and channels are shared out, each of which sees all tiles. */
static int gradient(filtering *f) {
    size_t threads = (size_t)psm_get_threads(), tasks;
    f->rows = even(f->p->m, TURNED), f->depth = even(f->w.channels, DEPTH);
    f->span = even(f->w.tiles, TILES);
    for (;;) {
        size_t *longer = f->rows > f->depth ? &f->rows : &f->depth;
        tasks = divide_up(f->p->m, f->rows) * divide_up(f->w.channels, f->depth);
        if (psm_shared_out(tasks, threads) || *longer <= LANES) break;
        *longer = even(*longer, (*longer + 1) / 2);
    }
    psm_parallel(tasks, gradient_task, f);
    return -atomic_load(f->failed);
}

int psm_filtering(const psm_product *p, const psm_operands *o) {
    atomic_int failed = 0;
    filtering f = {.k = psm_kernels_get(), .p = p, .o = o, .failed = &failed};
    int turned = p->k % 9 != 0 || !find(p->y.rows, p->k, p->y.cols, p->n, &f.w);
    if (!f.k->filter_windows || (turned && !find(p->y.cols, p->n, p->y.rows, p->k, &f.w)) || !pays(&f.w, p->m, turned)) return 1;
    for (f.entry = 0; f.entry < p->batch; f.entry++)
        if (turned ? gradient(&f) : forward(&f)) return -1;
    return 0;
}
