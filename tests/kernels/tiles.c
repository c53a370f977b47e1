/* Products on emulated tiles: src/c/amx.c with its dispatch and its pool, above tables that know only the
 * schoolbook product. Built by test_tiles.py with PSM_EMULATE_TILES. The environment makes it fail:
 * TILES_REFUSED=1, TILES_WRONG=1. */
#include "amx.c"

#include "pool.h"

int psm_tiles_refused, psm_tiles_wrong;
static size_t elsewhere; /* products by the table for AVX-512 */

__attribute__((constructor)) static void setting(void) {
    psm_tiles_refused = getenv("TILES_REFUSED") != NULL;
    psm_tiles_wrong = getenv("TILES_WRONG") != NULL;
}

static void schoolbook(size_t m, size_t n, size_t k, psm_view a, psm_view b, u64 *c, ptrdiff_t ldc,
                       int accumulate, u64 *work) {
    (void)work;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)m; i++)
        for (ptrdiff_t j = 0; j < (ptrdiff_t)n; j++) {
            u64 sum = accumulate ? c[i * ldc + j] : 0;
            for (ptrdiff_t p = 0; p < (ptrdiff_t)k; p++)
                sum += a.data[i * a.row + p * a.col] * b.data[p * b.row + j * b.col];
            c[i * ldc + j] = sum;
        }
}

static void counted(size_t m, size_t n, size_t k, psm_view a, psm_view b, u64 *c, ptrdiff_t ldc, int accumulate,
                    u64 *work) {
    elsewhere++;
    schoolbook(m, n, k, a, b, c, ldc, accumulate, work);
}

static size_t no_words(size_t m, size_t n, size_t k) { return (void)m, (void)n, (void)k, 0; }

#define TABLE(NAME, PRODUCT) {.name = NAME, .matmul = PRODUCT, .matmul_work = no_words}

const psm_kernels psm_kernels_portable = TABLE("portable", schoolbook);
const psm_kernels psm_kernels_avx2 = TABLE("avx2", schoolbook);
const psm_kernels psm_kernels_vaes256 = TABLE("vaes256", schoolbook);
const psm_kernels psm_kernels_avx512 = TABLE("avx512", counted);
const psm_kernels psm_kernels_avx512vaes = TABLE("avx512vaes", schoolbook);

size_t tiles_elsewhere(void) {
    size_t n = elsewhere;
    elsewhere = 0;
    return n;
}

const char *tiles_target(void) { return psm_kernels_get()->name; }

/* on tiles whatever the shape */
size_t tiles_work(size_t m, size_t n, size_t k) { return psm_matmul_work(m, n, k); }

void tiles_product(size_t m, size_t n, size_t k, psm_view a, psm_view b, u64 *c, ptrdiff_t ldc, int accumulate,
                   u64 *work) {
    on_tiles(m, n, k, a, b, c, ldc, accumulate, work);
}
