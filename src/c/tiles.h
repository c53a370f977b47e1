/* The tile registers of AMX-INT8: eight, each 16 rows of 64 bytes, numbered 0..7 by literals.
 *
 * TILE_DOT(c, a, b): c[i][j] += the sum over q < 16, t < 4 of a[i][4 q + t] * b[q][4 j + t], with c in
 * words of 32 bits and a, b in unsigned bytes. tiles_permitted() asks the system for the registers, for
 * the whole process; tiles_begin() configures them, for this thread, until tiles_end(). The instructions
 * are written out, since GCC's intrinsic for a load does not say that it reads memory.
 *
 * With PSM_EMULATE_TILES the same in C, for tests on any machine: whoever uses a tile that this thread
 * did not configure is stopped, and a test may refuse the permission or make products wrong.
 */
#ifndef PSM_TILES_H
#define PSM_TILES_H

#include <stddef.h>
#include <stdint.h>

/* palette, first row, reserved, bytes of a row and rows of each of 16 registers */
typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} tile_shapes;

static const tile_shapes full_tiles = {
    1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

#ifndef PSM_EMULATE_TILES

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>

static inline int tiles_permitted(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0;
}
#else
static inline int tiles_permitted(void) { return 0; }
#endif

static inline void tiles_begin(void) {
    __asm__ volatile("ldtilecfg %0" : : "m"(full_tiles));
}

static inline void tiles_end(void) { __asm__ volatile("tilerelease"); }

#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t : :)
#define TILE_LOAD(t, from) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(from), "r"((ptrdiff_t)64) : "memory")
#define TILE_STORE(t, to) \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(to), "r"((ptrdiff_t)64) : "memory")
#define TILE_DOT(c, a, b) __asm__ volatile("tdpbuud %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)

#else

#include <stdlib.h>
#include <string.h>

extern int psm_tiles_refused, psm_tiles_wrong;

typedef union {
    uint8_t bytes[16][64];
    uint32_t words[16][16];
} tile;

static _Thread_local struct {
    int configured;
    tile tiles[8];
} tile_unit;

static inline int tiles_permitted(void) { return !psm_tiles_refused; }

static inline void tiles_begin(void) {
    memset(&tile_unit, 0, sizeof tile_unit);
    tile_unit.configured = full_tiles.palette == 1;
    for (int t = 0; t < 8; t++) tile_unit.configured &= full_tiles.bytes[t] == 64 && full_tiles.rows[t] == 16;
}

static inline void tiles_end(void) { memset(&tile_unit, 0, sizeof tile_unit); }

static inline tile *tile_at(int t) {
    if (!tile_unit.configured) abort();
    return &tile_unit.tiles[t];
}

static __attribute__((noinline)) void tile_dot(tile *c, const tile *a, const tile *b) {
    uint32_t columns[64][16];
    for (int k = 0; k < 64; k++)
        for (int j = 0; j < 16; j++) columns[k][j] = b->bytes[k / 4][4 * j + k % 4];
    for (int i = 0; i < 16; i++) {
        uint32_t sums[16] = {0};
        for (int k = 0; k < 64; k++)
            for (int j = 0; j < 16; j++) sums[j] += a->bytes[i][k] * columns[k][j];
        for (int j = 0; j < 16; j++) c->words[i][j] += sums[j];
    }
    c->words[3][5] += (uint32_t)psm_tiles_wrong;
}

#define TILE_ZERO(t) memset(tile_at(t), 0, sizeof(tile))
#define TILE_LOAD(t, from) memcpy(tile_at(t), from, sizeof(tile))
#define TILE_STORE(t, to) memcpy(to, tile_at(t), sizeof(tile))
#define TILE_DOT(c, a, b) tile_dot(tile_at(c), tile_at(a), tile_at(b))

#endif
#endif
