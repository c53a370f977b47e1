/* AES-128 without AES instructions, in constant time: no table is looked up and
 * no branch is taken on a key or a block.
 *
 * Bit-sliced. Eight planes hold bit 0..7 of every state byte, each plane being
 * two 64-bit lanes of four blocks, so that one pass encrypts eight blocks and
 * a compiler may use whatever 128-bit vectors the machine has. Inside a lane
 * bit 16*row + 4*column + block belongs to the state byte (row, column), which
 * makes ShiftRows a rotation of nibbles in each 16-bit row and the row shift
 * of MixColumns a rotation of the lane.
 *
 * SubBytes is the 113-gate circuit of Boyar and Peralta, "A depth-16 circuit
 * for the AES S-box" (2011).
 */

#include "prg_op.h"

#define AES_VECTOR 16 /* bytes */
enum { AES_BLOCKS = 8 };

typedef u64 soft_lane __attribute__((vector_size(16)));

typedef struct {
    soft_lane round[11][8];
} aes_schedule;

static void soft_sub_bytes(soft_lane q[8]) {
    soft_lane x0 = q[7], x1 = q[6], x2 = q[5], x3 = q[4];
    soft_lane x4 = q[3], x5 = q[2], x6 = q[1], x7 = q[0];

    /* top linear layer */
    soft_lane y14 = x3 ^ x5, y13 = x0 ^ x6, y9 = x0 ^ x3, y8 = x0 ^ x5;
    soft_lane t0 = x1 ^ x2, y1 = t0 ^ x7, y4 = y1 ^ x3, y12 = y13 ^ y14;
    soft_lane y2 = y1 ^ x0, y5 = y1 ^ x6, y3 = y5 ^ y8, t1 = x4 ^ y12;
    soft_lane y15 = t1 ^ x5, y20 = t1 ^ x1, y6 = y15 ^ x7, y10 = y15 ^ t0;
    soft_lane y11 = y20 ^ y9, y7 = x7 ^ y11, y17 = y10 ^ y11, y19 = y10 ^ y8;
    soft_lane y16 = t0 ^ y11, y21 = y13 ^ y16, y18 = x0 ^ y16;

    /* inversion in GF(2^8) */
    soft_lane t2 = y12 & y15, t3 = y3 & y6, t4 = t3 ^ t2, t5 = y4 & x7;
    soft_lane t6 = t5 ^ t2, t7 = y13 & y16, t8 = y5 & y1, t9 = t8 ^ t7;
    soft_lane t10 = y2 & y7, t11 = t10 ^ t7, t12 = y9 & y11, t13 = y14 & y17;
    soft_lane t14 = t13 ^ t12, t15 = y8 & y10, t16 = t15 ^ t12, t17 = t4 ^ t14;
    soft_lane t18 = t6 ^ t16, t19 = t9 ^ t14, t20 = t11 ^ t16, t21 = t17 ^ y20;
    soft_lane t22 = t18 ^ y19, t23 = t19 ^ y21, t24 = t20 ^ y18, t25 = t21 ^ t22;
    soft_lane t26 = t21 & t23, t27 = t24 ^ t26, t28 = t25 & t27, t29 = t28 ^ t22;
    soft_lane t30 = t23 ^ t24, t31 = t22 ^ t26, t32 = t31 & t30, t33 = t32 ^ t24;
    soft_lane t34 = t23 ^ t33, t35 = t27 ^ t33, t36 = t24 & t35, t37 = t36 ^ t34;
    soft_lane t38 = t27 ^ t36, t39 = t29 & t38, t40 = t25 ^ t39, t41 = t40 ^ t37;
    soft_lane t42 = t29 ^ t33, t43 = t29 ^ t40, t44 = t33 ^ t37, t45 = t42 ^ t41;
    soft_lane z0 = t44 & y15, z1 = t37 & y6, z2 = t33 & x7, z3 = t43 & y16;
    soft_lane z4 = t40 & y1, z5 = t29 & y7, z6 = t42 & y11, z7 = t45 & y17;
    soft_lane z8 = t41 & y10, z9 = t44 & y12, z10 = t37 & y3, z11 = t33 & y4;
    soft_lane z12 = t43 & y13, z13 = t40 & y5, z14 = t29 & y2, z15 = t42 & y9;
    soft_lane z16 = t45 & y14, z17 = t41 & y8;

    /* bottom linear layer */
    soft_lane t46 = z15 ^ z16, t47 = z10 ^ z11, t48 = z5 ^ z13, t49 = z9 ^ z10;
    soft_lane t50 = z2 ^ z12, t51 = z2 ^ z5, t52 = z7 ^ z8, t53 = z0 ^ z3;
    soft_lane t54 = z6 ^ z7, t55 = z16 ^ z17, t56 = z12 ^ t48, t57 = t50 ^ t53;
    soft_lane t58 = z4 ^ t46, t59 = z3 ^ t54, t60 = t46 ^ t57, t61 = z14 ^ t57;
    soft_lane t62 = t52 ^ t58, t63 = t49 ^ t58, t64 = z4 ^ t59, t65 = t61 ^ t62;
    soft_lane t66 = z1 ^ t63, t67 = t64 ^ t65;
    q[7] = t59 ^ t63;
    q[4] = t53 ^ t66;
    q[6] = t64 ^ ~q[4];
    q[5] = t55 ^ ~t67;
    q[3] = t51 ^ t66;
    q[2] = t47 ^ t65;
    q[1] = t56 ^ ~t62;
    q[0] = t48 ^ ~t60;
}

static inline void soft_shift_rows(soft_lane q[8]) {
    for (int i = 0; i < 8; i++) {
        soft_lane x = q[i];
        q[i] = (x & 0x000000000000FFFF)
             | (x & 0x00000000FFF00000) >> 4 | (x & 0x00000000000F0000) << 12
             | (x & 0x0000FF0000000000) >> 8 | (x & 0x000000FF00000000) << 8
             | (x & 0xF000000000000000) >> 12 | (x & 0x0FFF000000000000) << 4;
    }
}

/* per column: out = 2*(a ^ next) ^ next ^ both further rows, `next` one row down */
static inline void soft_mix_columns(soft_lane q[8]) {
    soft_lane next[8], pair[8];

    for (int i = 0; i < 8; i++) {
        next[i] = q[i] >> 16 | q[i] << 48;
        pair[i] = q[i] ^ next[i];
    }
    for (int i = 0; i < 8; i++) {
        soft_lane doubled = pair[(i + 7) & 7];
        if (i == 1 || i == 3 || i == 4)
            doubled ^= pair[7];
        q[i] = doubled ^ next[i] ^ (pair[i] >> 32 | pair[i] << 32);
    }
}

static inline void soft_add_key(const soft_lane key[8], soft_lane q[8]) {
    for (int i = 0; i < 8; i++)
        q[i] ^= key[i];
}

/* exchange the bits of a selected by ~mask with those of b selected by mask */
static inline void soft_exchange(soft_lane *a, soft_lane *b, u64 mask, int shift) {
    soft_lane low = (*a & mask) | (*b & mask) << shift;
    soft_lane high = (*a & ~mask) >> shift | (*b & ~mask);

    *a = low;
    *b = high;
}

/* bytes to planes and back: an involution */
static void soft_transpose(soft_lane q[8]) {
    for (int i = 0; i < 8; i += 2)
        soft_exchange(&q[i], &q[i + 1], 0x5555555555555555, 1);
    for (int i = 0; i < 8; i += 4) {
        soft_exchange(&q[i], &q[i + 2], 0x3333333333333333, 2);
        soft_exchange(&q[i + 1], &q[i + 3], 0x3333333333333333, 2);
    }
    for (int i = 0; i < 4; i++)
        soft_exchange(&q[i], &q[i + 4], 0x0F0F0F0F0F0F0F0F, 4);
}

/* spread the bytes of x, one column, to the even bytes of a lane */
static inline u64 soft_spread(uint32_t x) {
    u64 y = x;

    y = (y | y << 16) & 0x0000FFFF0000FFFF;
    return (y | y << 8) & 0x00FF00FF00FF00FF;
}

static inline uint32_t soft_gather(u64 y) {
    y &= 0x00FF00FF00FF00FF;
    y = (y | y >> 8) & 0x0000FFFF0000FFFF;
    return (uint32_t)(y | y >> 16);
}

/* eight blocks into planes; block 4*half + i goes to lane `half` */
static void soft_pack(const uint8_t *in, soft_lane q[8]) {
    for (int i = 0; i < 4; i++)
        for (int half = 0; half < 2; half++) {
            uint32_t w[4];
            memcpy(w, in + 64 * half + 16 * i, sizeof w);
            q[i][half] = soft_spread(w[0]) | soft_spread(w[2]) << 8;
            q[i + 4][half] = soft_spread(w[1]) | soft_spread(w[3]) << 8;
        }
    soft_transpose(q);
}

static void soft_unpack(soft_lane q[8], uint8_t *out) {
    soft_transpose(q);
    for (int i = 0; i < 4; i++)
        for (int half = 0; half < 2; half++) {
            uint32_t w[4] = {
                soft_gather(q[i][half]), soft_gather(q[i + 4][half]),
                soft_gather(q[i][half] >> 8), soft_gather(q[i + 4][half] >> 8),
            };
            memcpy(out + 64 * half + 16 * i, w, sizeof w);
        }
}

static void aes_load(const psm_aes_key *key, aes_schedule *schedule) {
    for (int r = 0; r < 11; r++) {
        uint8_t copies[128];
        for (int i = 0; i < 8; i++)
            memcpy(copies + 16 * i, key->bytes + 16 * r, 16);
        soft_pack(copies, schedule->round[r]);
    }
}

static void aes_batch(const aes_schedule *schedule, const uint8_t *in, uint8_t *out) {
    soft_lane q[8];

    soft_pack(in, q);
    soft_add_key(schedule->round[0], q);
    for (int r = 1; r < 10; r++) {
        soft_sub_bytes(q);
        soft_shift_rows(q);
        soft_mix_columns(q);
        soft_add_key(schedule->round[r], q);
    }
    soft_sub_bytes(q);
    soft_shift_rows(q);
    soft_add_key(schedule->round[10], q);
    soft_unpack(q, out);
}

static inline __attribute__((always_inline))
void aes_mask(enum prg_op op, const aes_schedule *schedule, u64 stream, u64 counter, const u64 *x,
              u64 *out) {
    u64 words[2 * AES_BLOCKS];

    for (int i = 0; i < AES_BLOCKS; i++) {
        words[2 * i] = counter + (u64)i;
        words[2 * i + 1] = stream;
    }
    aes_batch(schedule, (const uint8_t *)words, (uint8_t *)words);
    for (int i = 0; i < 2 * AES_BLOCKS; i++) {
        switch (op) {
        case PRG_FILL: out[i] = words[i]; break;
        case PRG_ADD: out[i] = x[i] + words[i]; break;
        case PRG_SUB: out[i] = x[i] - words[i]; break;
        case PRG_XOR: out[i] = x[i] ^ words[i]; break;
        }
    }
}

/* out = AES of a batch in vectors of a block */
static inline void aes_vectors(const aes_schedule *schedule, const soft_lane in[8], soft_lane out[8]) {
    aes_batch(schedule, (const uint8_t *)in, (uint8_t *)out);
}

/* SubBytes of each byte of one word */
static uint32_t soft_sub_word(uint32_t word) {
    uint8_t blocks[128] = {0};
    soft_lane q[8];

    memcpy(blocks, &word, sizeof word);
    soft_pack(blocks, q);
    soft_sub_bytes(q);
    soft_unpack(q, blocks);
    memcpy(&word, blocks, sizeof word);
    return word;
}

static void psm_aes_expand(const uint8_t *key, psm_aes_key *round_keys) {
    static const uint8_t constant[10] = {1, 2, 4, 8, 16, 32, 64, 128, 0x1b, 0x36};
    uint32_t w[44];

    memcpy(w, key, 16);
    for (int i = 4; i < 44; i += 4) {
        uint32_t last = w[i - 1];
        w[i] = w[i - 4] ^ soft_sub_word(last >> 8 | last << 24) ^ constant[i / 4 - 1];
        for (int j = 1; j < 4; j++)
            w[i + j] = w[i + j - 1] ^ w[i + j - 4];
    }
    memcpy(round_keys->bytes, w, sizeof w);
}
