/* Products with windows that lie in runs of consecutive words: nothing is gathered.
 *
 * `lanes`: each k has its run of b, which all rows of a take; `dots`: both operands
 * have runs along k, and each pair of rows is an inner product.  A tile of sums stays
 * in registers.  Words up to the next multiple of 8 behind a run are read, and do not
 * count.
 */
#include "unroll.h"

#ifdef PSM_DIRECT_WIDE
enum { DIRECT_ROWS = 6, DIRECT_VECTORS = 4, LANES_ROWS = 64, DOTS_ROWS = 24 };
#else
enum { DIRECT_ROWS = 3, DIRECT_VECTORS = 1, LANES_ROWS = 3, DOTS_ROWS = 0 };
#endif

static inline v8 direct_load(const u64 *p) {
    v8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline __attribute__((always_inline))
void lanes_tile(int rows, int vectors, size_t m, size_t k, const u64 *a, const u64 *b,
                const ptrdiff_t *taps, size_t count, u64 *out, size_t ldo, int accumulate) {
    v8 sum[DIRECT_ROWS][DIRECT_VECTORS];
    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int v = 0; v < vectors; v++) sum[i][v] = (v8){0};
    for (size_t p = 0; p < k; p++, a += m) {
        v8 x[DIRECT_VECTORS];
        PSM_UNROLL
        for (int v = 0; v < vectors; v++) x[v] = direct_load(b + taps[p] + 8 * v);
        PSM_UNROLL
        for (int i = 0; i < rows; i++)
            PSM_UNROLL
            for (int v = 0; v < vectors; v++) sum[i][v] += ((v8){0} + a[i]) * x[v];
    }
    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int v = 0; v < vectors; v++) {
            u64 *to = out + (size_t)i * ldo + 8 * v;
            size_t left = count - 8 * (size_t)v, w = left < 8 ? left : 8;
            v8 before = accumulate ? psm_load(to, w) : (v8){0};
            before += sum[i][v];
            psm_store(to, &before, w);
        }
}

static inline __attribute__((always_inline))
void lanes_rows(int rows, size_t m, size_t k, const u64 *a, const u64 *b, const ptrdiff_t *taps,
                size_t count, u64 *out, size_t ldo, int accumulate) {
    for (size_t at = 0; at < count; at += 8 * DIRECT_VECTORS) {
        size_t left = count - at;
#define LANES(vectors) lanes_tile(rows, vectors, m, k, a, b + at, taps, left, out + at, ldo, accumulate)
#ifdef PSM_DIRECT_WIDE
        if (left > 24) LANES(4);
        else if (left > 16) LANES(3);
        else if (left > 8) LANES(2);
        else
#endif
            LANES(1);
#undef LANES
    }
}

/* out[i * ldo + j] (+)= sum of a[p * m + i] * b[taps[p] + j] over p < k, for i < m, j < count */
static void psm_lanes(size_t m, size_t k, const u64 *a, const u64 *b, const ptrdiff_t *taps,
                      size_t count, u64 *out, size_t ldo, int accumulate) {
    for (size_t i = 0; i < m; i += DIRECT_ROWS) {
#define ROWS(rows) lanes_rows(rows, m, k, a + i, b, taps, count, out + i * ldo, ldo, accumulate)
        switch (m - i) {
        case 1: ROWS(1); break;
        case 2: ROWS(2); break;
#ifdef PSM_DIRECT_WIDE
        case 3: ROWS(3); break;
        case 4: ROWS(4); break;
        case 5: ROWS(5); break;
#endif
        default: ROWS(DIRECT_ROWS); break;
        }
#undef ROWS
    }
}

static inline __attribute__((always_inline))
void dots_tile(int rows, int columns, size_t count, const u64 *a, const ptrdiff_t *offsets,
               const u64 *b, const ptrdiff_t *taps, u64 *sums, size_t n) {
    v8 sum[DIRECT_ROWS][4];
    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int j = 0; j < columns; j++) sum[i][j] = direct_load(sums + 8 * ((size_t)i * n + (size_t)j));
    for (size_t at = 0; at < count; at += 8) {
        size_t w = count - at < 8 ? count - at : 8;
        v8 y[4];
        PSM_UNROLL
        for (int j = 0; j < columns; j++) y[j] = direct_load(b + taps[j] + at);
        PSM_UNROLL
        for (int i = 0; i < rows; i++) {
            v8 x = w == 8 ? direct_load(a + offsets[i] + at) : psm_load(a + offsets[i] + at, w);
            PSM_UNROLL
            for (int j = 0; j < columns; j++) sum[i][j] += x * y[j];
        }
    }
    PSM_UNROLL
    for (int i = 0; i < rows; i++)
        PSM_UNROLL
        for (int j = 0; j < columns; j++) memcpy(sums + 8 * ((size_t)i * n + (size_t)j), &sum[i][j], sizeof(v8));
}

static inline __attribute__((always_inline))
void dots_rows(int rows, size_t n, size_t count, const u64 *a, const ptrdiff_t *offsets,
               const u64 *b, const ptrdiff_t *taps, u64 *sums) {
    size_t j = 0;
#ifdef PSM_DIRECT_WIDE
    for (; j + 4 <= n; j += 4) dots_tile(rows, 4, count, a, offsets, b, taps + j, sums + 8 * j, n);
#endif
    for (; j + 2 <= n; j += 2) dots_tile(rows, 2, count, a, offsets, b, taps + j, sums + 8 * j, n);
    if (j < n) dots_tile(rows, 1, count, a, offsets, b, taps + j, sums + 8 * j, n);
}

/* sums[(i * n + j) * 8 ..] += products of a[offsets[i] + at] and b[taps[j] + at], at < count,
 * in eight parts */
static void psm_dots(size_t m, size_t n, size_t count, const u64 *a, const ptrdiff_t *offsets,
                     const u64 *b, const ptrdiff_t *taps, u64 *sums) {
    for (size_t i = 0; i < m; i += DIRECT_ROWS) {
#define ROWS(rows) dots_rows(rows, n, count, a, offsets + i, b, taps, sums + 8 * i * n)
        switch (m - i) {
        case 1: ROWS(1); break;
        case 2: ROWS(2); break;
#ifdef PSM_DIRECT_WIDE
        case 3: ROWS(3); break;
        case 4: ROWS(4); break;
        case 5: ROWS(5); break;
#endif
        default: ROWS(DIRECT_ROWS); break;
        }
#undef ROWS
    }
}
