/* Elementwise arithmetic mod 2^64 and the elementwise Beaver combines.
 *
 * Plain loops over contiguous arrays, left to the compiler's vectoriser; an
 * output may equal an input, never overlap it in part.
 */

/* out[i] = x[i] + y[i] */
static void psm_add(const u64 *x, const u64 *y, u64 *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = x[i] + y[i];
}

/* out[i] = x[i] - y[i] */
static void psm_sub(const u64 *x, const u64 *y, u64 *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = x[i] - y[i];
}

/* out[i] = x[i] * y[i] */
static void psm_mul(const u64 *x, const u64 *y, u64 *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = x[i] * y[i];
}

/* out[i] = x[i] ^ y[i] */
static void psm_xor(const u64 *x, const u64 *y, u64 *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = x[i] ^ y[i];
}

/* out[i] = k * x[i] */
static void psm_scale(const u64 *x, u64 k, u64 *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = k * x[i];
}

/* out[i] = sum over rows of x[row][i] */
static void psm_rows_sum(const u64 *x, size_t rows, u64 *out, size_t n) {
    if (n) memcpy(out, x, n * sizeof(u64));
    for (size_t row = 1; row < rows; row++) {
        const u64 *src = x + row * n;
        for (size_t i = 0; i < n; i++) out[i] += src[i];
    }
}

/* out[i] = xor over rows of x[row][i] */
static void psm_rows_xor(const u64 *x, size_t rows, u64 *out, size_t n) {
    if (n) memcpy(out, x, n * sizeof(u64));
    for (size_t row = 1; row < rows; row++) {
        const u64 *src = x + row * n;
        for (size_t i = 0; i < n; i++) out[i] ^= src[i];
    }
}

enum { EXTREMES_CHUNK = 256 };

/* out[0], out[1] = the largest and the smallest, as signed words, of the sums over rows of x[row][i]; n > 0 */
static void psm_rows_extremes(const u64 *x, size_t rows, size_t n, u64 *out) {
    int64_t high = INT64_MIN, low = INT64_MAX;
    for (size_t at = 0; at < n; at += EXTREMES_CHUNK) {
        size_t m = n - at < EXTREMES_CHUNK ? n - at : EXTREMES_CHUNK;
        u64 sum[EXTREMES_CHUNK];
        memcpy(sum, x + at, m * sizeof(u64));
        for (size_t row = 1; row < rows; row++) {
            const u64 *src = x + row * n + at;
            for (size_t i = 0; i < m; i++) sum[i] += src[i];
        }
        for (size_t i = 0; i < m; i++) {
            int64_t word = (int64_t)sum[i];
            high = word > high ? word : high;
            low = word < low ? word : low;
        }
    }
    out[0] = (u64)high;
    out[1] = (u64)low;
}

enum { WEIGHTED_CHUNK = 256 };

/* out[i] = sum over k of factors[k][i] * words[k][i], rows of n, for i from begin to end */
static void psm_weighted(const u64 *factors, const u64 *words, size_t count, u64 *out, size_t n, size_t begin,
                         size_t end) {
    for (size_t at = begin; at < end; at += WEIGHTED_CHUNK) {
        size_t m = end - at < WEIGHTED_CHUNK ? end - at : WEIGHTED_CHUNK;
        u64 sum[WEIGHTED_CHUNK] = {0};
        for (size_t k = 0; k < count; k++) {
            const u64 *f = factors + k * n + at, *x = words + k * n + at;
            for (size_t i = 0; i < m; i++) sum[i] += f[i] * x[i];
        }
        memcpy(out + at, sum, m * sizeof(u64));
    }
}

/* out[q][i] = constants[q], unless NULL, plus the sum over k of weights[q][k] * x[k][i], rows of n, for i from begin to
 * end and q < sums */
static void psm_combinations(const u64 *x, size_t count, const u64 *weights, const u64 *constants, size_t sums, u64 *out,
                             size_t n, size_t begin, size_t end) {
    for (size_t at = begin; at < end; at += WEIGHTED_CHUNK) {
        size_t m = end - at < WEIGHTED_CHUNK ? end - at : WEIGHTED_CHUNK;
        for (size_t q = 0; q < sums; q++) {
            u64 sum[WEIGHTED_CHUNK], first = constants ? constants[q] : 0;
            for (size_t i = 0; i < m; i++) sum[i] = first;
            for (size_t k = 0; k < count; k++) {
                const u64 w = weights[q * count + k], *row = x + k * n + at;
                for (size_t i = 0; i < m; i++) sum[i] += w * row[i];
            }
            memcpy(out + q * n + at, sum, m * sizeof(u64));
        }
    }
}

/* z[i] += d[i] * y[i] + a[i] * e[i]: the product (d + a)(e + b) where y shares
 * e + b, a shares the mask and z holds the share of a * b on entry. */
static void psm_beaver_mul(const u64 *d, const u64 *y, const u64 *a, const u64 *e, u64 *z, size_t n) {
    for (size_t i = 0; i < n; i++) z[i] += d[i] * y[i] + a[i] * e[i];
}

/* z[i] += d[i] * (x[i] + a[i]): the square of d + a, where x shares d + a. */
static void psm_beaver_square(const u64 *d, const u64 *x, const u64 *a, u64 *z, size_t n) {
    for (size_t i = 0; i < n; i++) z[i] += d[i] * (x[i] + a[i]);
}
