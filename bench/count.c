/* Instructions of each kernel, counted by Callgrind: what a change costs, whatever else the machine does.
 *
 *     valgrind --tool=callgrind --collect-atstart=no ./count portable|avx2
 *
 * dumps the count of each kernel under its name, and prints "name elements" in the same order.  One holder's
 * work, or the dealer's for two, on N elements after a first call that is not counted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/callgrind.h>

#include "dispatch.h"
#include "product.h"

enum { N = 4096, WORDS = N / 64, HOLDERS = 2, ROOM = 16 * N };
enum { ROWS = 64, DEPTH = 196, COLUMNS = 128 };

static u64 a[ROOM], b[ROOM], c[ROOM], d[ROOM], e[ROOM], out[ROOM], out2[ROOM], out3[ROOM], work[1 << 20];
static const psm_kernels *chosen;
static psm_aes_key keys[HOLDERS];

/* for rounds.c and product.c; the targets for AVX-512, which Valgrind cannot run, are not linked */
const psm_kernels *psm_kernels_get(void) { return chosen; }

#define COUNT(name, elements, ...)               \
    do {                                         \
        __VA_ARGS__;                             \
        CALLGRIND_ZERO_STATS;                    \
        CALLGRIND_TOGGLE_COLLECT;                \
        __VA_ARGS__;                             \
        CALLGRIND_TOGGLE_COLLECT;                \
        CALLGRIND_DUMP_STATS_AT(name);           \
        printf("%s %d\n", name, (int)(elements)); \
    } while (0)
#define KERNEL(name, ...) COUNT(#name, N, k->name(__VA_ARGS__))

int main(int argc, char **argv) {
    psm_divisor power = {.power = 16, .offset = (u64)1 << 62, .offset_quotient = (u64)1 << 46};
    psm_divisor by17 = {0xe1e1e1e1e1e1e1e2, 1, 4, 0, ((u64)1 << 62) / 17 * 17, ((u64)1 << 62) / 17};
    ptrdiff_t offsets[] = {0};
    psm_view left = {a, DEPTH, 1}, right = {b, COLUMNS, 1};
    psm_factor x = {a, c, 5, ROWS * DEPTH, DEPTH, 1, offsets, NULL, NULL, NULL};
    psm_factor y = {b, d, 6, DEPTH * COLUMNS, COLUMNS, 1, offsets, NULL, NULL, NULL};
    psm_product product = {x, y, 1, ROWS, COLUMNS, DEPTH};
    psm_holders one = {keys, 1, 0, 0}, all = {keys, HOLDERS, -1, -1};
    const psm_kernels *k = NULL;
    uint8_t key[16] = {1};

    if (argc > 1 && strcmp(argv[1], "portable") == 0) chosen = k = &psm_kernels_portable;
#ifdef __x86_64__
    if (argc > 1 && strcmp(argv[1], "avx2") == 0) chosen = k = &psm_kernels_avx2;
#endif
    if (!k) {
        fputs("usage: valgrind --tool=callgrind --collect-atstart=no ./count portable|avx2\n", stderr);
        return 2;
    }
    if (k->matmul_work(ROWS, COLUMNS, DEPTH) > sizeof work / sizeof *work) abort();
    u64 *arrays[] = {a, b, c, d, e};
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < ROOM; j++) arrays[i][j] = (j + i) * 0x9E3779B97F4A7C15 ^ j << 17;
    for (int i = 0; i < HOLDERS; i++) k->aes_expand(key, &keys[i]);

    KERNEL(prg_fill, keys, 7, 0, out, N);
    KERNEL(prg_sub, keys, 7, 0, a, out, N);
    KERNEL(add, a, b, out, N);
    KERNEL(mul, a, b, out, N);
    KERNEL(rows_sum, a, HOLDERS, out, N);
    KERNEL(beaver_mul, a, b, c, d, out, N);
    KERNEL(beaver_square, a, b, c, out, N);
    COUNT("matmul", ROWS * DEPTH * COLUMNS, k->matmul(ROWS, COLUMNS, DEPTH, left, right, out, COLUMNS, 0, work));
    COUNT("product_deal", ROWS * DEPTH * COLUMNS, psm_product_deal(&all, &product, 9, out));
    COUNT("product_combine", ROWS * DEPTH * COLUMNS, psm_product_combine(&one, &product, 9, e, out));
    KERNEL(truncate_deal, keys, HOLDERS, 16, power, NULL, 1, 0, N, out, N);
    KERNEL(truncate_mask, keys, 16, power.offset, 1, a, out, 0, 0, N);
    KERNEL(truncate_finish, keys, 16, power, 1, a, 0, b, NULL, out, 0, N, N);
    COUNT("truncate_finish drawn", N, k->truncate_finish(keys, 16, power, 1, a, 0, NULL, NULL, out, 0, N, N));
    COUNT("truncate_finish by 17", N, k->truncate_finish(keys, 16, by17, 1, a, 0, b, NULL, out, 0, N, N));
    KERNEL(compare_deal, keys, HOLDERS, 32, 4, NULL, N, 0, WORDS, out, out2, out3);
    KERNEL(compare_chunks, keys, 32, 32, 4, 1, b, a, 1, N, 0, WORDS, out2, out);
    KERNEL(compare_nodes, keys, 32, 4, 1, b, a, 0, WORDS, c, out2, out);
    KERNEL(compare_root, keys, 32, 1, b, a, 0, WORDS, c, out);
    KERNEL(bit_deal, keys, HOLDERS, 46, 37, N, 0, WORDS, out);
    KERNEL(bit_share, a, b, 1, out, N);
    KERNEL(select_deal, keys, HOLDERS, 32, 46, &power, N, 0, WORDS, out);
    KERNEL(select_finish, keys, 32, &power, 1, 0, a, b, c, d, out, N, 0, WORDS);
    return 0;
}
