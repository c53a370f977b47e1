/* Powers of e, in integers: public factors of secret words, as in turns.inc.h.
 *
 * v = x / 2^32 with |v| <= 1; the result is e^v at 2^40.  A polynomial of degree 12 (the expansion
 * in Chebyshev polynomials as far as that, within 2^-44.4 of e^v) by Horner's rule: v at 2^62, sums
 * at 2^60, products of 64 bits by 64 in 128, rounded down; then rounded to 2^40.  In all off by less
 * than 2^-40.8.  Of another x the result is some word.
 */

/* out[i] = 2^40 e^(x[i] / 2^32) */
static void psm_powers_of_e(const u64 *x, u64 *out, size_t begin, size_t end) {
    static const u64 coefficients[] = {
        2453628832, 29490666509, 317649852313, 3176380721829, 28594327327549, 228754724641562,
        1601279852103090, 9607679071388084, 48038396027854552, 192153584117860467, 576460752303262841,
        1152921504606249585, 1152921504606848616,
    };
    for (size_t i = begin; i < end; i++) {
        int64_t v = (int64_t)(x[i] << 30);
        u64 sum = coefficients[0];
        for (size_t k = 1; k < sizeof coefficients / sizeof *coefficients; k++)
            sum = coefficients[k] + (u64)((u128)((__int128)(int64_t)sum * v) >> 62);
        out[i] = (sum + ((u64)1 << 19)) >> 20;
    }
}
