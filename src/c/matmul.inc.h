/* C (+)= A @ B mod 2^64: blocking, shared by every multiplication scheme.
 *
 * The usual three levels. K is cut into slabs of at most MM_KC; a slab of A
 * (at most MM_MC rows) is packed in strips of MM_STRIP rows; each panel of
 * MM_NR columns of B is packed and meets every strip while it is in cache, a
 * tile of at most MM_ROWS rows by MM_NR columns of C at a time. Packing reads A and B
 * through their strides and writes what the kernel wants to read, in order and
 * padded with zeros, so the operands' layout matters nowhere else. Wrap-around
 * makes every split exact.
 *
 * When N fills its last panel badly the transposed product is computed instead
 * (the views are turned, the tile is stored by columns).
 *
 * A scheme (matmul_*.inc.h) provides
 *
 *   MM_STRIP, MM_NR, MM_ROWS, MM_KC, MM_MC
 *   MM_UNIT                              what a slab's depth is a multiple of
 *   MM_TURNS                             0 if a tile costs the same however few its rows
 *   mm_strip_words(k), mm_panel_words(k) sizes of one packed strip, panel
 *   mm_pack_strip(a, rows, k, out)       rows <= MM_STRIP of A, k <= MM_KC
 *   mm_pack_panel(b, k, cols, out)       cols <= MM_NR of B
 *   mm_tile(strip, row, rows, panel, cols, k, out)
 *                                        out[MM_ROWS][MM_NR] = rows row.. of the
 *                                        strip times the panel
 */

static inline size_t mm_min(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline size_t mm_blocks(size_t n, size_t block) {
    return (n + block - 1) / block;
}

/* the largest even split of n in parts of at most `most`, in multiples of `unit` */
static inline size_t mm_part(size_t n, size_t most, size_t unit) {
    size_t parts = mm_blocks(n, most);
    return parts ? unit * mm_blocks(mm_blocks(n, parts), unit) : unit;
}

static inline psm_view mm_at(psm_view v, size_t row, size_t col) {
    v.data += (ptrdiff_t)row * v.row + (ptrdiff_t)col * v.col;
    return v;
}

static inline psm_view mm_turned(psm_view v) {
    return (psm_view){v.data, v.col, v.row};
}

/* whether the transposed product wastes clearly less of its panels */
static inline int mm_turn(size_t m, size_t n) {
    size_t straight = m * mm_blocks(n, MM_NR), turned = n * mm_blocks(m, MM_NR);
    return MM_TURNS && 5 * turned < 4 * straight;
}

static inline void mm_add_row(const u64 *restrict x, u64 *restrict out) {
    for (size_t j = 0; j < MM_NR; j++) out[j] += x[j];
}

/* c[i, j] (+)= tile[i][j], c through strides */
static inline void mm_store(const u64 *tile, size_t rows, size_t cols,
                             u64 *c, ptrdiff_t row, ptrdiff_t col, int accumulate) {
    if (cols == MM_NR && col == 1) {
        for (size_t i = 0; i < rows; i++, tile += MM_NR, c += row)
            if (accumulate)
                mm_add_row(tile, c);
            else
                memcpy(c, tile, MM_NR * sizeof(u64));
        return;
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) {
            u64 *out = c + (ptrdiff_t)i * row + (ptrdiff_t)j * col;
            *out = tile[i * MM_NR + j] + (accumulate ? *out : 0);
        }
}

/* ask for a tile's place in C, which rarely is in the nearest cache */
static inline void mm_fetch(const u64 *c, size_t rows, ptrdiff_t row) {
    for (size_t i = 0; i < rows; i++, c += row)
        for (size_t j = 0; j < MM_NR; j += 8) __builtin_prefetch(c + j, 1);
}

/* one packed slab of A times one packed panel of B; first: nothing touched C before */
static void mm_sweep(const u64 *strips, size_t m, const u64 *panel, size_t cols, size_t k,
                      u64 *c, ptrdiff_t row, ptrdiff_t col, int accumulate, int first) {
    _Alignas(64) u64 tile[MM_ROWS * MM_NR];

    for (size_t i = 0; i < m; i += MM_ROWS) {
        size_t rows = mm_min(MM_ROWS, m - i);
        const u64 *strip = strips + i / MM_STRIP * mm_strip_words(k);
        if (col == 1 && first)
            mm_fetch(c + (ptrdiff_t)i * row, rows, row);
        mm_tile(strip, i % MM_STRIP, rows, panel, cols, k, tile);
        mm_store(tile, rows, cols, c + (ptrdiff_t)i * row, row, col, accumulate);
    }
}

/* words of `work` for the packed slab of A and, after it, that of B */
static inline size_t mm_strips_words(size_t m, size_t k) {
    return mm_blocks(mm_part(m, MM_MC, MM_STRIP), MM_STRIP)
         * mm_strip_words(mm_part(k, MM_KC, MM_UNIT));
}

static size_t psm_matmul_work(size_t m, size_t n, size_t k) {
    size_t rows = mm_turn(m, n) ? n : m;

    return mm_strips_words(rows, k) + mm_panel_words(mm_part(k, MM_KC, MM_UNIT)) + 8;
}

static void mm_clear(size_t m, size_t n, u64 *c, ptrdiff_t row, ptrdiff_t col) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            c[(ptrdiff_t)i * row + (ptrdiff_t)j * col] = 0;
}

static void mm_product(size_t m, size_t n, size_t k, psm_view a, psm_view b,
                        u64 *c, ptrdiff_t row, ptrdiff_t col, int accumulate, u64 *work) {
    size_t kc = mm_part(k, MM_KC, MM_UNIT), mc = mm_part(m, MM_MC, MM_STRIP);
    u64 *strips = (u64 *)(((uintptr_t)work + 63) & ~(uintptr_t)63);
    u64 *panel = strips + mm_strips_words(m, k);

    if (k == 0 && !accumulate)
        mm_clear(m, n, c, row, col);
    for (size_t p = 0; p < k; p += kc) {
        size_t kp = mm_min(kc, k - p);
        for (size_t i = 0; i < m; i += mc) {
            size_t mi = mm_min(mc, m - i);
            for (size_t s = 0; s < mi; s += MM_STRIP)
                mm_pack_strip(mm_at(a, i + s, p), mm_min(MM_STRIP, mi - s), kp,
                               strips + s / MM_STRIP * mm_strip_words(kp));
            for (size_t j = 0; j < n; j += MM_NR) {
                size_t cols = mm_min(MM_NR, n - j);
                mm_pack_panel(mm_at(b, p, j), kp, cols, panel);
                mm_sweep(strips, mi, panel, cols, kp,
                          c + (ptrdiff_t)i * row + (ptrdiff_t)j * col, row, col,
                          accumulate || p > 0, p == 0);
            }
        }
    }
}

static void psm_matmul(size_t m, size_t n, size_t k, psm_view a, psm_view b,
                       u64 *c, ptrdiff_t ldc, int accumulate, u64 *work) {
    if (mm_turn(m, n))
        mm_product(n, m, k, mm_turned(b), mm_turned(a), c, 1, ldc, accumulate, work);
    else
        mm_product(m, n, k, a, b, c, ldc, 1, accumulate, work);
}
