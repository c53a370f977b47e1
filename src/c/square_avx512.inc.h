/* An 8 x 8 block of a strided matrix as eight rows in registers: the one place
 * where the AVX-512 products read their operands. */

/* r[i] = column i becomes r[i] = row i */
static inline void avx512_transpose(__m512i r[8]) {
    __m512i s[8], t[8];

    for (int i = 0; i < 8; i += 2) {
        s[i] = _mm512_unpacklo_epi64(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi64(r[i], r[i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        t[i] = _mm512_shuffle_i64x2(s[i], s[i + 2], 0x88);
        t[i + 2] = _mm512_shuffle_i64x2(s[i], s[i + 2], 0xdd);
        t[i + 4] = _mm512_shuffle_i64x2(s[i + 4], s[i + 6], 0x88);
        t[i + 6] = _mm512_shuffle_i64x2(s[i + 4], s[i + 6], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i64x2(t[i], t[i + 4], 0x88);
        r[i + 4] = _mm512_shuffle_i64x2(t[i], t[i + 4], 0xdd);
    }
}

/* r[i] = row i of the 8 x 8 block at v, zero beyond rows and cols */
static inline __attribute__((always_inline))
void avx512_square(__m512i r[8], psm_view v, size_t rows, size_t cols) {
    int by_columns = v.col != 1;
    size_t lines = by_columns ? cols : rows, length = by_columns ? rows : cols;
    ptrdiff_t line = by_columns ? v.col : v.row, step = by_columns ? v.row : v.col;
    __mmask8 mask = length < 8 ? (__mmask8)((1u << length) - 1) : 0xff;

    if (step == 1) {
        for (int i = 0; i < 8; i++)
            r[i] = (size_t)i < lines ? _mm512_maskz_loadu_epi64(mask, v.data + i * line)
                                     : _mm512_setzero_si512();
    } else {
        __m512i index = _mm512_mullo_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0),
                                           _mm512_set1_epi64(step));
        for (int i = 0; i < 8; i++) {
            r[i] = _mm512_setzero_si512();
            if ((size_t)i < lines)
                r[i] = _mm512_mask_i64gather_epi64(r[i], mask, index, v.data + i * line, 8);
        }
    }
    if (by_columns)
        avx512_transpose(r);
}
