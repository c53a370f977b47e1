/* Elementwise products of values that are a public number plus dealt words (pysmpc/mpc/additive/affine.py).
 *
 * Such a value is m (C + a), which was opened less its mask a (kind PSM_OPENED), or a truncation
 * m (C - q + s J), with C = floor(c / d) - offset / d, s = [c < 2^63], and q and J of its r (truncate.inc.h);
 * m is a public number.  With w_0 = -m q (or m a) and w_1 = m J, in the order of the streams from `base`,
 * and m C in place of C:
 *     x y = C_x y + C_y x - C_x C_y + sum over k, j of s_x^k s_y^j (w_k of x) (w_j of y)
 *     x x = C (2 x - C) + m^2 q^2 + s m^2 J (J - 2 q), or C (2 x - C) + m^2 a^2.
 * The dealer shares the products of words, and holders add them up.
 */

/* the dealt words of m elements of a factor at `at`: how many rows of out there are */
static size_t psm_affine_words(const psm_aes_key *keys, size_t holders, const psm_known *x, size_t at, u64 (*out)[PSM_TILE],
                               size_t m) {
    u64 r[PSM_TILE];
    if (x->kind == PSM_OPENED) {
        psm_streams_sum(keys, holders, x->stream, at, out[0], m);
        for (size_t i = 0; i < m; i++) out[0][i] *= x->factor;
        return 1;
    }
    psm_streams_sum(keys, holders, x->stream, at, r, m);
    if (x->kind == PSM_REOPENED)
        for (size_t i = 0; i < m; i++) r[i] = (0 - r[i]) << x->d->power;
    psm_quotients(*x->d, r, out[0], out[1], m);
    for (size_t i = 0; i < m; i++) {
        out[0][i] *= 0 - x->factor;
        out[1][i] *= x->factor;
    }
    return 2;
}

/* corrections: rows of n words, of the products of words; y NULL: of the square of x */
static void psm_affine_deal(const psm_aes_key *keys, size_t holders, u64 base, const psm_known *x, const psm_known *y,
                            size_t n, size_t begin, size_t end, u64 *corrections) {
    u64 own[2][PSM_TILE], other[2][PSM_TILE];
    for (size_t at = begin; at < end; at += PSM_TILE) {
        size_t m = end - at < PSM_TILE ? end - at : PSM_TILE, row = 0;
        size_t count = psm_affine_words(keys, holders, x, at, own, m);
        u64 *out = corrections + at;
        if (y) {
            size_t others = psm_affine_words(keys, holders, y, at, other, m);
            for (size_t k = 0; k < count; k++)
                for (size_t j = 0; j < others; j++, row++)
                    for (size_t i = 0; i < m; i++) out[row * n + i] = own[k][i] * other[j][i];
        } else {
            for (size_t i = 0; i < m; i++) out[i] = own[0][i] * own[0][i];
            if (count == 2)
                for (size_t i = 0; i < m; i++) out[n + i] = own[1][i] * (own[1][i] + 2 * own[0][i]);
            row = count;
        }
        for (size_t k = 0; k < row; k++) psm_streams_take(keys, holders, base + k, at, out + k * n, m);
    }
}

/* public = m C and, of a truncation, top = all ones where s is 1: how many dealt words the factor has */
static size_t psm_affine_public(const psm_known *x, size_t at, u64 *public, u64 *top, size_t m) {
    const u64 *c = x->c + at;
    size_t count = 1;
    if (x->kind == PSM_OPENED) {
        memcpy(public, c, m * sizeof(u64));
    } else {
        psm_public_quotients(*x->d, c, public, m);
        for (size_t i = 0; i < m; i++) top[i] = (c[i] >> 63) - 1;
        count = 2;
    }
    if (x->factor != 1)
        for (size_t i = 0; i < m; i++) public[i] *= x->factor;
    return count;
}

/* out += one holder's share of a row of what was dealt, where the masks that are not NULL have ones */
static void psm_affine_add(const psm_aes_key *key, u64 base, size_t row, size_t at, const u64 *corrections, size_t n,
                           const u64 *one, const u64 *two, u64 *out, size_t m) {
    u64 space[PSM_TILE];
    const u64 *dealt = psm_dealt(key, base + row, at, m, corrections ? corrections + row * n : NULL, space);
    if (one && two)
        for (size_t i = 0; i < m; i++) out[i] += dealt[i] & one[i] & two[i];
    else if (one || two) {
        const u64 *mask = one ? one : two;
        for (size_t i = 0; i < m; i++) out[i] += dealt[i] & mask[i];
    } else
        for (size_t i = 0; i < m; i++) out[i] += dealt[i];
}

/* out = one holder's share of the product of its shares xs and ys; y NULL: of the square of xs */
static void psm_affine_finish(const psm_aes_key *key, u64 base, const psm_known *x, const psm_known *y, int lead,
                              const u64 *xs, const u64 *ys, const u64 *corrections, u64 *out, size_t n, size_t begin,
                              size_t end) {
    u64 left[PSM_TILE], right[PSM_TILE], top[2][PSM_TILE];
    u64 first = lead ? ~(u64)0 : 0;
    for (size_t at = begin; at < end; at += PSM_TILE) {
        size_t m = end - at < PSM_TILE ? end - at : PSM_TILE, row = 0;
        const u64 *a = xs + at, *b = ys + at;
        u64 *to = out + at;
        size_t count = psm_affine_public(x, at, left, top[0], m);
        if (!y) {
            for (size_t i = 0; i < m; i++) to[i] = left[i] * (2 * a[i] - (left[i] & first));
            for (; row < count; row++)
                psm_affine_add(key, base, row, at, corrections, n, row ? top[0] : NULL, NULL, to, m);
            continue;
        }
        size_t others = psm_affine_public(y, at, right, top[1], m);
        for (size_t i = 0; i < m; i++) to[i] = left[i] * (b[i] - (right[i] & first)) + right[i] * a[i];
        for (size_t k = 0; k < count; k++)
            for (size_t j = 0; j < others; j++, row++)
                psm_affine_add(key, base, row, at, corrections, n, k ? top[0] : NULL, j ? top[1] : NULL, to, m);
    }
}
