/* See wide_sums.h.
 *
 * A table for every six coins has the sum of the numbers with the same six.  Its lines are eight sums,
 * of what is called lanes: words mod 2^64, or halves of words, whose sums are exact.  Coins are read once
 * for eight lanes, a line is added in one or two vector operations, and tables stay in the first cache.
 */
#include "wide_sums.h"

#include <string.h>

#include "dispatch.h"
#include "pool.h"

enum { SETS = 48, COINS = 6, TABLES = SETS / COINS, PATTERNS = 1 << COINS, LANES = 8, BLOCK = 64 };

typedef struct {
    const u64 *words;
    unsigned shift;
    u64 mask;
} lane;

typedef void kernel(const u64 *coins, const lane *lanes, size_t count, size_t n, u64 sums[SETS][LANES]);

typedef struct {
    kernel *kernel;
    const u64 *coins, *const *x;
    size_t parts, n;
    u64 *out;
} step;

/* The lanes of a part, three or one. */
static size_t lanes_of(const u64 *low, const u64 *high, lane out[3]) {
    if (!high) {
        out[0] = (lane){low, 0, ~(u64)0};
        return 1;
    }
    out[0] = (lane){low, 0, 0xFFFFFFFF}, out[1] = (lane){low, 32, 0xFFFFFFFF}, out[2] = (lane){high, 0, ~(u64)0};
    return 3;
}

/* sums [48][8] of up to eight lanes; the compiler makes vectors of lines */
static inline __attribute__((always_inline)) void add_lines(const u64 *coins, const lane *lanes, size_t count,
                                                            size_t n, u64 sums[SETS][LANES]) {
    _Alignas(64) u64 tables[TABLES][PATTERNS][LANES], lines[BLOCK][LANES];
    memset(tables, 0, sizeof tables), memset(lines, 0, sizeof lines);
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t m = n - at < BLOCK ? n - at : BLOCK;
        for (size_t l = 0; l < count; l++)
            for (size_t i = 0; i < m; i++) lines[i][l] = lanes[l].words[at + i] >> lanes[l].shift & lanes[l].mask;
        for (size_t i = 0; i < m; i++)
            for (size_t t = 0; t < TABLES; t++) {
                u64 *line = tables[t][coins[at + i] >> (COINS * t) & (PATTERNS - 1)];
                for (size_t l = 0; l < LANES; l++) line[l] += lines[i][l];
            }
    }
    memset(sums, 0, SETS * LANES * sizeof(u64));
    for (size_t set = 0; set < SETS; set++)
        for (size_t pattern = 0; pattern < PATTERNS; pattern++)
            if (pattern >> set % COINS & 1)
                for (size_t l = 0; l < LANES; l++) sums[set][l] += tables[set / COINS][pattern][l];
}

static void portable_lines(const u64 *coins, const lane *lanes, size_t count, size_t n, u64 sums[SETS][LANES]) {
    add_lines(coins, lanes, count, n, sums);
}

#ifdef __x86_64__

__attribute__((target("avx2"))) static void avx2_lines(const u64 *coins, const lane *lanes, size_t count, size_t n,
                                                       u64 sums[SETS][LANES]) {
    add_lines(coins, lanes, count, n, sums);
}

__attribute__((target("avx512f,prefer-vector-width=512"))) static void avx512_lines(
    const u64 *coins, const lane *lanes, size_t count, size_t n, u64 sums[SETS][LANES]) {
    add_lines(coins, lanes, count, n, sums);
}

static kernel *chosen(void) {
    psm_vectors vectors = psm_dispatch_vectors();
    return vectors >= PSM_AVX512 ? avx512_lines : vectors == PSM_AVX2 ? avx2_lines : portable_lines;
}

#else
static kernel *chosen(void) { return portable_lines; }
#endif

/* The parts from `first` on whose lanes fit in a line: the first that does not. */
static size_t together(const step *s, size_t first, lane lanes[LANES], size_t *count) {
    lane found[3];
    size_t part = first;
    for (*count = 0; part < s->parts; part++) {
        size_t more = lanes_of(s->x[2 * part], s->x[2 * part + 1], found);
        if (*count + more > LANES) break;
        memcpy(lanes + *count, found, more * sizeof(lane));
        *count += more;
    }
    return part;
}

static void sums_task(void *context, size_t index) {
    const step *s = context;
    lane lanes[LANES];
    u64 sums[SETS][LANES];
    size_t count, first = 0, last = together(s, 0, lanes, &count);
    for (size_t i = 0; i < index; i++) first = last, last = together(s, first, lanes, &count);
    s->kernel(s->coins, lanes, count, s->n, sums);
    for (size_t part = first, at = 0; part < last; part++) {
        int whole = s->x[2 * part + 1] != NULL;
        u64 *out = s->out + part * 2 * SETS;
        for (size_t set = 0; set < SETS; set++) {
            const u64 *sum = sums[set] + at;
            u128 value = whole ? sum[0] + ((u128)sum[1] << 32) + ((u128)sum[2] << 64) : sum[0];
            out[set] = (u64)value, out[SETS + set] = (u64)(value >> 64);
        }
        at += whole ? 3 : 1;
    }
}

void psm_wide_sums_all(size_t parts, const u64 *coins, const u64 *const *x, u64 *out, size_t n) {
    step s = {.kernel = chosen(), .coins = coins, .x = x, .parts = parts, .n = n, .out = out};
    lane lanes[LANES];
    size_t tasks = 0, count;
    for (size_t first = 0; first < parts; tasks++) first = together(&s, first, lanes, &count);
    psm_parallel(tasks, sums_task, &s);
}
