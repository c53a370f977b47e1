/* See wide_product.h.
 *
 * d y mod 2^128 is the whole of d times the lower half of y, and 2^64 times d y mod 2^64 of the
 * upper half: that is an ordinary product of words (matmul.h).  Of y @ d the transposed is computed.
 */
#include "wide_product.h"

#include <stdatomic.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "dispatch.h"
#include "matmul.h"
#include "pool.h"
#include "unroll.h"
#include "work.h"

enum { COLUMNS = 8, TOGETHER = 4 };           /* columns a block, blocks a task */
enum { WORDS = 1, SUMS = 2, LEFT = 3 };       /* slots of work.h */
enum { LIMBS = 3, DEPTH = 128 };              /* of a word; terms whose limbs, of eight columns, are 24 kB */

/* d [m][k], rows `ld` words apart, as packed() leaves it, times words y [k][8]: sums [m][2][8], lower halves first */
typedef void kernel(size_t m, size_t k, const u64 *d, size_t ld, const u64 *y, u64 *sums);

static void portable_product(size_t m, size_t k, const u64 *d, size_t ld, const u64 *y, u64 *sums) {
    for (size_t i = 0; i < m; i++, sums += 2 * COLUMNS)
        for (size_t j = 0; j < COLUMNS; j++) {
            u128 sum = sums[j] | (u128)sums[COLUMNS + j] << 64;
            for (size_t t = 0; t < k; t++) sum += (u128)d[i * ld + t] * y[t * COLUMNS + j];
            sums[j] = (u64)sum, sums[COLUMNS + j] = (u64)(sum >> 64);
        }
}

#ifdef __x86_64__

#pragma GCC diagnostic ignored "-Wpsabi" /* vectors are passed between static functions only */

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
#define WIDE(name) avx2_##name
#define wide_v avx2_v
#define WIDE_MUL(x, y) ((wide_v)_mm256_mul_epu32((__m256i)(x), (__m256i)(y)))
typedef u64 avx2_v __attribute__((vector_size(32)));
#include "wide_product.inc.h"
#undef WIDE
#undef wide_v
#undef WIDE_MUL
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f")
#endif
#define WIDE(name) avx512_##name
#define wide_v avx512_v
#define WIDE_MUL(x, y) ((wide_v)_mm512_mul_epu32((__m512i)(x), (__m512i)(y)))
typedef u64 avx512_v __attribute__((vector_size(64)));
#include "wide_product.inc.h"
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512ifma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512ifma")
#endif
#include "wide_product_ifma.inc.h"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static kernel *chosen(void) {
    static kernel *const kernels[] = {portable_product, avx2_product, avx512_product, ifma_product};
    return kernels[psm_dispatch_vectors()];
}

#else
static kernel *chosen(void) { return portable_product; }
#endif

typedef struct {
    kernel *kernel;
    size_t m, n, k, blocks, tasks;
    const u64 *d; /* [m][k] */
    const u64 *y;
    ptrdiff_t row, col, set;
    u64 *z;
    size_t plane, z_row, z_col; /* words of a half; between rows and columns */
    atomic_int failed;
} product;

/* eight columns of y, zeros behind the last */
static void gather(const product *p, const u64 *y, size_t count, u64 *out) {
    if (count < COLUMNS) memset(out, 0, p->k * COLUMNS * sizeof(u64));
    for (size_t t = 0; t < p->k; t++)
        for (size_t j = 0; j < count; j++)
            out[t * COLUMNS + j] = y[(ptrdiff_t)t * p->row + (ptrdiff_t)j * p->col];
}

static void scatter(const product *p, const u64 *sums, size_t count, u64 *z) {
    for (size_t i = 0; i < p->m; i++, sums += 2 * COLUMNS)
        for (size_t j = 0; j < count; j++) {
            u64 *at = z + i * p->z_row + j * p->z_col;
            u128 value = (at[0] | (u128)at[p->plane] << 64) + (sums[j] | (u128)sums[COLUMNS + j] << 64);
            at[0] = (u64)value, at[p->plane] = (u64)(value >> 64);
        }
}

static void columns_task(void *context, size_t index) {
    product *p = context;
    size_t set = index / p->tasks, first = index % p->tasks * TOGETHER, last = first + TOGETHER;
    u64 *words = psm_work(WORDS, p->k * COLUMNS), *sums = psm_work(SUMS, p->m * 2 * COLUMNS);
    if (!words || !sums) {
        atomic_store(&p->failed, 1);
        return;
    }
    for (size_t block = first; block < last && block < p->blocks; block++) {
        size_t j = block * COLUMNS, count = p->n - j < COLUMNS ? p->n - j : COLUMNS;
        gather(p, p->y + (ptrdiff_t)set * p->set + (ptrdiff_t)j * p->col, count, words);
        memset(sums, 0, p->m * 2 * COLUMNS * sizeof(u64));
        p->kernel(p->m, p->k, p->d, p->k, words, sums);
        scatter(p, sums, count, p->z + set * 2 * p->plane + j * p->z_col);
    }
}

/* the matrix d [m][k], turned or not, in a row, a word behind it, and then the upper 12 bits of each of its words */
static u64 *packed(const u64 *d, size_t m, size_t k, ptrdiff_t row, ptrdiff_t col) {
    u64 *out = psm_work(LEFT, 2 * m * k + 1);
    if (!out) return NULL;
    for (size_t i = 0; i < m; i++)
        for (size_t t = 0; t < k; t++) out[i * k + t] = d[(ptrdiff_t)i * row + (ptrdiff_t)t * col];
    out[m * k] = 0;
    for (size_t i = 0; i < m * k; i++) out[m * k + 1 + i] = out[i] >> 52;
    return out;
}

static int upper_halves(size_t m, size_t n, size_t k, const u64 *d, psm_wide_view dv, const u64 *y, psm_wide_view yv,
                        int left, u64 *z) {
    psm_view one = {d, dv.row, dv.col}, two = {y, yv.row, yv.col};
    return left ? psm_matmul(m, n, k, two, one, z, (ptrdiff_t)n, 1) : psm_matmul(m, n, k, one, two, z, (ptrdiff_t)n, 1);
}

int psm_wide_matmul(size_t sets, size_t batch, size_t m, size_t n, size_t k, psm_wide_view d, psm_wide_view y,
                    ptrdiff_t set, ptrdiff_t half, int left, u64 *z) {
    size_t plane = batch * m * n;
    product p = {.kernel = chosen(), .m = left ? n : m, .n = left ? m : n, .k = k, .set = set, .plane = plane,
                 .row = left ? y.col : y.row, .col = left ? y.row : y.col,
                 .z_row = left ? 1 : n, .z_col = left ? n : 1};
    p.blocks = (p.n + COLUMNS - 1) / COLUMNS;
    p.tasks = (p.blocks + TOGETHER - 1) / TOGETHER;
    for (size_t b = 0; b < batch && p.m && p.n && k; b++) {
        const u64 *one = d.data + (ptrdiff_t)b * d.batch, *two = y.data + (ptrdiff_t)b * y.batch;
        u64 *out = z + b * m * n;
        p.d = left ? packed(one, n, k, d.col, d.row) : packed(one, m, k, d.row, d.col);
        if (!p.d) return -1;
        p.y = two, p.z = out;
        psm_parallel(sets * p.tasks, columns_task, &p);
        if (atomic_load(&p.failed)) return -1;
        for (size_t s = 0; s < sets; s++)
            if (upper_halves(m, n, k, one, d, two + (ptrdiff_t)s * set + half, y, left, out + (2 * s + 1) * plane))
                return -1;
    }
    return 0;
}
