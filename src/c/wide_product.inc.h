/* sums[i] += the sum over t of d[i][t] * y[t], for eight columns of y at once: the body of wide_product.c,
 * for the target that includes this and defines
 *     WIDE(name)        the name for this target
 *     wide_v            its vector of words
 *     WIDE_MUL(x, y)    the products of the lower halves of words
 *
 * Vector units multiply 32 bits by 32.  A word of d is split in two halves and one of y in three
 * limbs of 22, 22 and 20 bits: a product has then at most 54 bits, and 2^10 of them are added
 * before anything may overflow.  These are 6 products and 6 additions a term, where halves of both
 * would be 4 products, of which three have to be split before they are added.  A term of scalar
 * units is two multiplications, for which there is one unit.
 */
static inline wide_v WIDE(at)(const u64 *p) {
    wide_v out;
    memcpy(&out, p, sizeof out);
    return out;
}

/* sums + acc[0] + (acc[1] << 22) + (acc[2] << 44) + (acc[3] << 32) + (acc[4] << 54) + (acc[5] << 76) */
static inline void WIDE(flush)(const wide_v acc[2 * LIMBS], u64 *sums) {
    static const unsigned weights[5] = {0, 22, 44, 32, 54};
    wide_v low = WIDE(at)(sums), high = WIDE(at)(sums + COLUMNS) + (acc[5] << 12);
    for (int j = 0; j < 5; j++) {
        wide_v part = acc[j] << weights[j];
        low += part;
        high -= (wide_v)(low < part);
        if (j) high += acc[j] >> (64 - weights[j]);
    }
    memcpy(sums, &low, sizeof low), memcpy(sums + COLUMNS, &high, sizeof high);
}

/* `rows` rows of d, and as many sums; half a word behind the last of d is read */
static inline __attribute__((always_inline)) void WIDE(rows)(size_t rows, size_t k, const u64 *d, size_t ld,
                                                             const wide_v *limbs, u64 *sums) {
    wide_v acc[2][2 * LIMBS] = {{{0}}};
    for (size_t t = 0; t < k; t++, limbs += LIMBS)
        for (size_t i = 0; i < rows; i++) {
            const u64 *at = d + i * ld + t;
            u64 upper;
            memcpy(&upper, (const char *)at + 4, sizeof upper); /* products are of lower halves */
            wide_v d0 = (wide_v){0} + *at, d1 = (wide_v){0} + upper;
            for (int j = 0; j < LIMBS; j++) {
                acc[i][j] += WIDE_MUL(d0, limbs[j]);
                acc[i][LIMBS + j] += WIDE_MUL(d1, limbs[j]);
            }
        }
    for (size_t i = 0; i < rows; i++) WIDE(flush)(acc[i], sums + i * 2 * COLUMNS);
}

static void WIDE(product)(size_t m, size_t k, const u64 *d, size_t ld, const u64 *y, u64 *sums) {
    enum { LANES = sizeof(wide_v) / sizeof(u64) };
    wide_v limbs[DEPTH * LIMBS];
    for (size_t at = 0; at < COLUMNS; at += LANES)
        for (size_t first = 0; first < k; first += DEPTH) {
            size_t depth = k - first < DEPTH ? k - first : DEPTH, i = 0;
            for (size_t t = 0; t < depth; t++) {
                wide_v word = WIDE(at)(y + (first + t) * COLUMNS + at);
                limbs[t * LIMBS] = word & ((1 << 22) - 1);
                limbs[t * LIMBS + 1] = word >> 22 & ((1 << 22) - 1);
                limbs[t * LIMBS + 2] = word >> 44;
            }
            for (; i + 2 <= m; i += 2)
                WIDE(rows)(2, depth, d + i * ld + first, ld, limbs, sums + i * 2 * COLUMNS + at);
            if (i < m) WIDE(rows)(1, depth, d + i * ld + first, ld, limbs, sums + i * 2 * COLUMNS + at);
        }
}
