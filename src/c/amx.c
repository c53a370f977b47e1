/* Products on tiles for machines with AMX-INT8 and AVX-512 F, DQ, BW and VL; nothing on others. */
#include "amx.h"

#ifdef __x86_64__

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target( \
    "avx512f,avx512dq,avx512bw,avx512vl,avx2,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,bmi2,prefer-vector-width=512")
#endif

#include "matmul_amx.inc.h"
#include "matmul.inc.h"

static void on_tiles(size_t m, size_t n, size_t k, psm_view a, psm_view b, u64 *c, ptrdiff_t ldc,
                     int accumulate, u64 *work) {
    tiles_begin();
    psm_matmul(m, n, k, a, b, c, ldc, accumulate, work);
    tiles_end();
}

/* A tile takes the same time however little of it is used. In units of 600 cycles, what 36 byte products
 * take: one for each 64 k of a tile of the result and nearly one to put it together, two for packing 64 k
 * of a strip or a panel. Without tiles some 4.2 words are multiplied a cycle. */
static int tiles_pay(size_t m, size_t n, size_t k) {
    double down = (double)mm_blocks(m, MM_ROWS), across = (double)mm_blocks(n, MM_NR);
    double deep = (double)mm_blocks(k, MM_UNIT);

    return 2500 * (down * across * (deep + 1) + 2 * (down + across) * deep) < (double)m * n * k;
}

void psm_amx_matmul(size_t m, size_t n, size_t k, psm_view a, psm_view b, u64 *c, ptrdiff_t ldc,
                    int accumulate, u64 *work) {
    if (tiles_pay(m, n, k))
        on_tiles(m, n, k, a, b, c, ldc, accumulate, work);
    else
        psm_kernels_avx512.matmul(m, n, k, a, b, c, ldc, accumulate, work);
}

size_t psm_amx_matmul_work(size_t m, size_t n, size_t k) {
    return tiles_pay(m, n, k) ? psm_matmul_work(m, n, k) : psm_kernels_avx512.matmul_work(m, n, k);
}

/* --- is the product right on this machine? --- */

enum { LONGEST = 17000, ROWS = 5, COLS = 3 };

/* of words that are all ones, the largest sums, or that a fixed mixing function makes */
static int agrees(size_t m, size_t n, size_t k, int ones, u64 *memory) {
    u64 *a = memory, *b = a + m * k, *c = b + k * n, *expected = c + m * n, *work = expected + m * n;
    psm_view left = {a, (ptrdiff_t)k, 1}, right = {b, 1, (ptrdiff_t)k};

    for (u64 i = 0, x = 0; i < k * (m + n); i++) {
        x = (x + 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9;
        a[i] = ones ? ~(u64)0 : x ^ x >> 31;
    }
    psm_kernels_portable.matmul(m, n, k, left, right, expected, (ptrdiff_t)n, 0, work);
    on_tiles(m, n, k, left, right, c, (ptrdiff_t)n, 0, work);
    return memcmp(c, expected, m * n * sizeof *c) == 0;
}

static size_t check_words(size_t m, size_t n, size_t k) {
    size_t tiles = psm_matmul_work(m, n, k), plain = psm_kernels_portable.matmul_work(m, n, k);
    return (m + n) * k + 2 * m * n + (tiles > plain ? tiles : plain);
}

const char *psm_amx_start(void) {
    static const size_t shapes[][3] = {{33, 50, 130}, {16, 16, MM_KC}, {ROWS, COLS, LONGEST}};
    size_t words = 0;

    if (!tiles_permitted()) return "refused by the system";
    for (int i = 0; i < 3; i++) {
        size_t each = check_words(shapes[i][0], shapes[i][1], shapes[i][2]);
        words = each > words ? each : words;
    }
    u64 *memory = malloc(words * sizeof(u64));
    if (!memory) return "not checked, for want of memory";
    int right = 1;
    for (int i = 0; i < 6; i++)
        right &= agrees(shapes[i / 2][0], shapes[i / 2][1], shapes[i / 2][2], i % 2, memory);
    free(memory);
    return right ? NULL : "wrong products";
}

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#else
typedef int psm_nothing_here;
#endif
