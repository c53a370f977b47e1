/* The choice of a kernel table.
 *
 * A table is eligible if the CPU has its instructions and the operating system
 * saves its registers (XCR0). The choice is made once, under pthread_once, and
 * is immutable afterwards. There is no fallback for a forced name that cannot be
 * obeyed: it is reported, so that a test never runs another table unnoticed.
 *
 * `amx` is the best of the other tables with its products on tiles (amx.h). These
 * need more than features, a permission and a first product that is right, and so
 * are tried before the choice, unless another target is forced.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "amx.h"
#include "dispatch.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif

enum {
    AVX2 = 1 << 0,
    BMI2 = 1 << 1,
    AES = 1 << 2,
    AVX512F = 1 << 3,
    AVX512DQ = 1 << 4,
    AVX512BW = 1 << 5,
    AVX512VL = 1 << 6,
    VAES = 1 << 7,
    AMX_TILE = 1 << 8,
    AMX_INT8 = 1 << 9,
    AVX512IFMA = 1 << 10,
};

static const struct {
    unsigned bit;
    const char *name;
} features[] = {
    {AVX2, "avx2"}, {BMI2, "bmi2"}, {AES, "aes"},
    {AVX512F, "avx512f"}, {AVX512DQ, "avx512dq"}, {AVX512BW, "avx512bw"},
    {AVX512VL, "avx512vl"}, {VAES, "vaes"},
    {AVX512IFMA, "avx512ifma"}, {AMX_TILE, "amx_tile"}, {AMX_INT8, "amx_int8"},
};

enum { FEATURES = sizeof features / sizeof features[0] };

static psm_kernels tiled = {.name = "amx"};

static const struct {
    const psm_kernels *table;
    unsigned needs;
} targets[] = {
    {&psm_kernels_portable, 0},
#ifdef __x86_64__
#define NEEDS_AVX2 (AVX2 | BMI2 | AES)
#define NEEDS_AVX512 (NEEDS_AVX2 | AVX512F | AVX512DQ | AVX512BW | AVX512VL)
    {&psm_kernels_avx2, NEEDS_AVX2},
    {&psm_kernels_vaes256, NEEDS_AVX2 | VAES},
    {&psm_kernels_avx512, NEEDS_AVX512},
    {&psm_kernels_avx512vaes, NEEDS_AVX512 | VAES},
#define NEEDS_AMX (NEEDS_AVX512 | AMX_TILE | AMX_INT8)
    {&tiled, NEEDS_AMX},
#endif
};

enum { TARGETS = sizeof targets / sizeof targets[0] };

static struct {
    const psm_kernels *table;
    unsigned cpu;
    const char *names[TARGETS + 1];
    const char *tiles; /* NULL, or why the table with them cannot run */
    char reason[384];
    char products[128];
    char error[256];
} choice;

static pthread_once_t chosen = PTHREAD_ONCE_INIT;

#ifdef __x86_64__

/* the register state the operating system saves (XCR0); 0 without xsave */
static unsigned saved_state(unsigned leaf1_ecx) {
    unsigned low = 0, high = 0;

    if (leaf1_ecx & bit_OSXSAVE)
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static unsigned cpu_features(void) {
    enum { YMM = 0x06, ZMM = 0xe6, TILES = 0x60000 };
    unsigned a, b, c, d, leaf1, state, found = 0;

    if (!__get_cpuid(1, &a, &b, &leaf1, &d) || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    state = saved_state(leaf1);
    if ((state & YMM) != YMM)
        return 0;
    found |= leaf1 & bit_AES ? AES : 0;
    found |= b & bit_AVX2 ? AVX2 : 0;
    found |= b & bit_BMI2 ? BMI2 : 0;
    found |= c & bit_VAES ? VAES : 0;
    if ((state & ZMM) != ZMM)
        return found;
    found |= b & bit_AVX512F ? AVX512F : 0;
    found |= b & bit_AVX512DQ ? AVX512DQ : 0;
    found |= b & bit_AVX512BW ? AVX512BW : 0;
    found |= b & bit_AVX512VL ? AVX512VL : 0;
    found |= b & bit_AVX512IFMA ? AVX512IFMA : 0;
#ifdef PSM_EMULATE_TILES
    found |= AMX_TILE | AMX_INT8;
#else
    if ((state & TILES) == TILES) {
        found |= d & 1u << 24 ? AMX_TILE : 0;
        found |= d & 1u << 25 ? AMX_INT8 : 0;
    }
#endif
    return found;
}

/* rows up to which products of windows are made where they lie (direct.h): tiles are worth gathering beyond */
enum { DIRECT_BESIDE_TILES = 8 };

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* completes the table with tiles, from one that is eligible */
static void try_tiles(const psm_kernels *base, const char *forced) {
    tiled = *base;
    tiled.name = "amx";
    tiled.matmul = psm_amx_matmul;
    tiled.matmul_work = psm_amx_matmul_work;
    tiled.lanes_rows = least(tiled.lanes_rows, DIRECT_BESIDE_TILES);
    tiled.dots_rows = least(tiled.dots_rows, DIRECT_BESIDE_TILES);
    tiled.filter_windows = NULL;
    if (NEEDS_AMX & ~choice.cpu)
        choice.tiles = "absent";
    else if (forced && strcmp(forced, "amx") != 0)
        choice.tiles = "not tried, for another target is forced";
    else
        choice.tiles = psm_amx_start();
}

#else

static void try_tiles(const psm_kernels *base, const char *forced) { (void)base, (void)forced; }

static unsigned cpu_features(void) {
    return 0;
}

#endif

static int eligible(size_t target) {
    return (targets[target].needs & ~choice.cpu) == 0 && !(targets[target].table == &tiled && choice.tiles);
}

/* text = "a b c", the features of `set`; always terminated */
static void list_features(unsigned set, char *text, size_t room) {
    size_t used = 0;

    text[0] = 0;
    for (int i = 0; i < FEATURES; i++)
        if (set & features[i].bit && used < room)
            used += (size_t)snprintf(text + used, room - used, "%s%s", used ? " " : "",
                                     features[i].name);
}

static void force(const char *name) {
    char missing[128];

    for (size_t i = 0; i < TARGETS; i++) {
        if (strcmp(targets[i].table->name, name) != 0)
            continue;
        if (eligible(i)) {
            choice.table = targets[i].table;
            return;
        }
        list_features(targets[i].needs & ~choice.cpu, missing, sizeof missing);
        if (missing[0])
            snprintf(choice.error, sizeof choice.error, "PYSMPC_TARGET=%s: this CPU lacks %s", name, missing);
        else
            snprintf(choice.error, sizeof choice.error, "PYSMPC_TARGET=%s: tiles are %s", name, choice.tiles);
        return;
    }
    snprintf(choice.error, sizeof choice.error,
             "PYSMPC_TARGET=%.64s: no such target; known are portable, avx2, vaes256, "
             "avx512, avx512vaes, amx", name);
}

static void explain(void) {
    unsigned all = 0;
    char present[128], absent[128];

    for (int i = 0; i < FEATURES; i++)
        all |= features[i].bit;
    list_features(choice.cpu, present, sizeof present);
    list_features(all & ~choice.cpu, absent, sizeof absent);
    snprintf(choice.reason, sizeof choice.reason, "%s: %s present; %s absent",
             choice.table->name, present[0] ? present : "nothing", absent[0] ? absent : "nothing");
    if (choice.table == &tiled)
        snprintf(choice.products, sizeof choice.products, "bytes on tiles, checked at the start; small ones by Winograd's inner product");
    else
        snprintf(choice.products, sizeof choice.products, "Winograd's inner product; tiles are %s",
                 choice.tiles ? choice.tiles : "absent");
}

static void choose(void) {
    const char *forced = getenv("PYSMPC_TARGET");
    size_t names = 0;

    if (forced && !forced[0]) forced = NULL;
    choice.cpu = cpu_features();
    try_tiles(choice.cpu & VAES ? &psm_kernels_avx512vaes : &psm_kernels_avx512, forced);
    for (size_t i = 0; i < TARGETS; i++)
        if (eligible(i)) {
            choice.table = targets[i].table;
            choice.names[names++] = targets[i].table->name;
        }
    if (forced)
        force(forced);
    explain();
}

const psm_kernels *psm_kernels_get(void) {
    pthread_once(&chosen, choose);
    return choice.table;
}

const char *psm_dispatch_error(void) {
    pthread_once(&chosen, choose);
    return choice.error[0] ? choice.error : NULL;
}

const char *psm_dispatch_reason(void) {
    pthread_once(&chosen, choose);
    return choice.reason;
}

psm_vectors psm_dispatch_vectors(void) {
    const psm_kernels *table = psm_kernels_get();
    unsigned has = 0;

    for (size_t i = 0; i < TARGETS; i++)
        if (targets[i].table == table) has = targets[i].needs;
    if (!(has & AVX512F)) return has & AVX2 ? PSM_AVX2 : PSM_SCALARS;
    return choice.cpu & AVX512IFMA && strcmp(table->name, "avx512") != 0 ? PSM_IFMA : PSM_AVX512;
}

const char *psm_dispatch_products(void) {
    pthread_once(&chosen, choose);
    return choice.products;
}

const psm_kernels *psm_kernels_by_name(const char *name) {
    pthread_once(&chosen, choose);
    for (size_t i = 0; i < TARGETS; i++)
        if (eligible(i) && strcmp(targets[i].table->name, name) == 0)
            return targets[i].table;
    return NULL;
}

const char *const *psm_kernels_names(void) {
    pthread_once(&chosen, choose);
    return choice.names;
}
