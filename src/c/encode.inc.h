/* Real numbers as integers in steps of a power of two, rounded to the nearest, halves to the even one.
 *
 * Magnitudes of the results are below 2^62; whoever calls has checked that, and that no value is NaN.
 */
typedef float __attribute__((may_alias)) psm_float;
typedef double __attribute__((may_alias)) psm_double;

/* Doubles from 2^52 on are whole; below, a sum with 2^52 has no room for a fraction. */
static inline u64 psm_nearest(double x) {
    double step = __builtin_copysign(4503599627370496.0, x), near = (x + step) - step;
    u64 one, other, fraction = 0 - (u64)(__builtin_fabs(x) < 4503599627370496.0);
    memcpy(&one, &near, sizeof one), memcpy(&other, &x, sizeof other);
    one = (one & fraction) | (other & ~fraction);
    memcpy(&x, &one, sizeof x);
    return (u64)(int64_t)x;
}

/* out[i] = the integer next to values[i] * scale; values are `size` bytes each: float or double */
static void psm_encode(const u64 *values, unsigned size, double scale, u64 *out, size_t begin, size_t end) {
    const psm_float *single = (const psm_float *)values;
    const psm_double *precise = (const psm_double *)values;
    if (size == sizeof(float))
        for (size_t i = begin; i < end; i++) out[i] = psm_nearest((double)single[i] * scale);
    else
        for (size_t i = begin; i < end; i++) out[i] = psm_nearest(precise[i] * scale);
}
