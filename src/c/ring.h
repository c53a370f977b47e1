/* The contract of the compiled core: arithmetic over Z_2^64 on secret shares.
 *
 * Every kernel works on plain arrays of uint64_t, allocates nothing in its
 * loops, never touches Python, and neither branches on nor indexes by the
 * contents of an array: control flow depends on lengths alone.
 *
 * One body per kernel (the *.inc.h files), compiled once for every CPU target
 * (target_*.c); psm_kernels() returns the table chosen for this machine.
 */
#ifndef PSM_RING_H
#define PSM_RING_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t u64;
typedef unsigned __int128 u128;

/* AES-128 key schedule: eleven round keys in the order of FIPS-197.
 *
 * epochs: NULL, or the keys derived from this one, which then serves to derive them and for
 * nothing else: a stream is drawn under the key of its epoch, the bits of its number from
 * PSM_EPOCH on. */
typedef struct psm_aes_key {
    uint8_t bytes[176];
    const struct psm_epochs *epochs;
} psm_aes_key;

enum { PSM_EPOCH = 40, PSM_RECENT = 64 };

/* The key of every epoch, and the last PSM_RECENT of them expanded, by epoch % PSM_RECENT. */
typedef struct psm_epochs {
    size_t count, room;
    uint8_t *keys; /* of 16 bytes each */
    psm_aes_key recent[PSM_RECENT];
} psm_epochs;

/* A stream of uniform words: word k is half (k & 1) of the block
 * AES-128(key, LE64(k >> 1) || LE64(stream)), with the key of the stream's epoch. */

/* A matrix seen through strides, in elements. */
typedef struct {
    const u64 *data;
    ptrdiff_t row, col;
} psm_view;

/* Three matrices of one layout: word (i, j) of each at (rows ? rows[i] : i * row) + (cols ? cols[j] : j * col). */
typedef struct {
    const u64 *data[3];
    ptrdiff_t row, col;
    const ptrdiff_t *rows, *cols;
} psm_places;

/* A public divisor d >= 2 of truncate.inc.h: a power of two by its exponent
 * (`power`), any other by its reciprocal; offset = d * floor(2^62 / d). */
typedef struct {
    u64 magic;
    unsigned shift1, shift2, power;
    u64 offset, offset_quotient;
} psm_divisor;

/* A function of fss.inc.h on the points [0, 2^bits), 1 <= bits <= 64, with 1 <= words <= 4
 * ring words of value: where x < alpha (less != 0), or where x = alpha. */
typedef struct {
    unsigned bits, words;
    int less;
} psm_fss;

/* Tiles of filtering.inc.h at once. */
enum { PSM_FILTER_LANES = 16 };

/* A factor of a product that needs no opening (affine.inc.h), `factor` times one of these: the value that was opened as c,
 * less the mask of `stream` (PSM_OPENED); the quotient by d of a value that was opened as c, plus the r of `stream`
 * (PSM_TRUNCATED), or plus r = -b 2^p + l, where b is of `stream` (PSM_REOPENED, reopen.inc.h). */
typedef enum { PSM_OPENED, PSM_TRUNCATED, PSM_REOPENED } psm_known_kind;
typedef struct {
    psm_known_kind kind;
    u64 stream, factor;
    const psm_divisor *d;
    const u64 *c;
} psm_known;

/* Multiples of the angles of words times `step`, in pieces of elements (characters.inc.h). */
typedef struct {
    u64 step;
    size_t terms, piece;
    unsigned shift;
} psm_angles;

/* Powers of e over a window of 2^segments segments, in pieces of elements (powers.inc.h). */
typedef struct {
    u64 start, step;
    size_t piece;
    unsigned segments, shift;
} psm_window;

typedef struct psm_kernels {
    const char *name;

    /* --- prg.inc.h: AES-128 in counter mode ------------------------------ */
    /* round_keys = expansion of the 16 byte key */
    void (*aes_expand)(const uint8_t *key, psm_aes_key *round_keys);
    /* out[16*i..] = AES(in[16*i..]) for i < blocks; out may equal in */
    void (*aes_blocks)(const psm_aes_key *key, const uint8_t *in, uint8_t *out, size_t blocks);
    /* out[i] = word (first + i) of the stream */
    void (*prg_fill)(const psm_aes_key *key, u64 stream, u64 first, u64 *out, size_t n);
    /* out[i] = x[i] + word (first + i); out may equal x */
    void (*prg_add)(const psm_aes_key *key, u64 stream, u64 first, const u64 *x, u64 *out, size_t n);
    /* out[i] = x[i] - word (first + i); out may equal x */
    void (*prg_sub)(const psm_aes_key *key, u64 stream, u64 first, const u64 *x, u64 *out, size_t n);
    /* out[i] = x[i] ^ word (first + i); out may equal x */
    void (*prg_xor)(const psm_aes_key *key, u64 stream, u64 first, const u64 *x, u64 *out, size_t n);

    /* --- matmul.inc.h ---------------------------------------------------- */
    /* C[m,n] (+)= A[m,k] @ B[k,n] mod 2^64; C is row major with stride ldc and
     * overlaps neither input; `work` holds matmul_work(m, n, k) words. */
    void (*matmul)(size_t m, size_t n, size_t k, psm_view a, psm_view b,
                   u64 *c, ptrdiff_t ldc, int accumulate, u64 *work);
    size_t (*matmul_work)(size_t m, size_t n, size_t k);
    /* NULL, or for holders h = 1 and 2, whose results are `next` words apart,
     * C[h] (+)= X[h] @ Y[0] + X[0] @ Y[h]: what a product of two secrets asks of each */
    void (*matmul_pair)(size_t m, size_t n, size_t k, const psm_places *x, const psm_places *y, u64 *c, size_t next,
                        ptrdiff_t ldc, int accumulate, u64 *work);
    size_t (*matmul_pair_work)(size_t m, size_t n, size_t k);

    /* --- direct.inc.h: faster than gathering up to so many rows --- */
    size_t lanes_rows, dots_rows;
    void (*lanes)(size_t m, size_t k, const u64 *a, const u64 *b, const ptrdiff_t *taps, size_t count,
                  u64 *out, size_t ldo, int accumulate);
    void (*dots)(size_t m, size_t n, size_t count, const u64 *a, const ptrdiff_t *offsets, const u64 *b,
                 const ptrdiff_t *taps, u64 *sums);

    /* --- filtering.inc.h, of PSM_FILTER_LANES at once; filter_windows is NULL where that does not pay --- */
    /* squares of 25 or of 9 words at positions, `span` apart, to 36 sums, `apart` words apart; 36 products to 9 results */
    void (*filter_windows)(const u64 *data, const ptrdiff_t *at, size_t span, int fours, ptrdiff_t ahead, u64 *out,
                           size_t apart);
    void (*filter_taps)(const u64 *data, const ptrdiff_t *at, size_t span, int fours, u64 *out, size_t apart);
    void (*filter_results)(const u64 *products, size_t apart, u64 *out);

    /* --- arith.inc.h ----------------------------------------------------- */
    void (*add)(const u64 *x, const u64 *y, u64 *out, size_t n);
    void (*sub)(const u64 *x, const u64 *y, u64 *out, size_t n);
    void (*mul)(const u64 *x, const u64 *y, u64 *out, size_t n);
    void (*xor_)(const u64 *x, const u64 *y, u64 *out, size_t n);
    void (*scale)(const u64 *x, u64 k, u64 *out, size_t n);
    void (*rows_sum)(const u64 *x, size_t rows, u64 *out, size_t n);
    void (*rows_xor)(const u64 *x, size_t rows, u64 *out, size_t n);
    void (*rows_extremes)(const u64 *x, size_t rows, size_t n, u64 *out);
    /* [begin, end) elements of n */
    void (*weighted)(const u64 *factors, const u64 *words, size_t count, u64 *out, size_t n, size_t begin,
                     size_t end);
    void (*combinations)(const u64 *x, size_t count, const u64 *weights, const u64 *constants, size_t sums, u64 *out,
                         size_t n, size_t begin, size_t end);
    void (*beaver_mul)(const u64 *d, const u64 *y, const u64 *a, const u64 *e, u64 *z, size_t n);
    void (*beaver_square)(const u64 *d, const u64 *x, const u64 *a, u64 *z, size_t n);

    /* --- bits.inc.h ------------------------------------------------------ */
    void (*pack_bits)(const u64 *x, u64 *out, size_t n);
    void (*unpack_bits)(const u64 *packed, u64 *out, size_t n);
    void (*decompose)(const u64 *x, u64 *planes, size_t n);

    /* --- truncate.inc.h; [begin, end) elements of n ------------------------ */
    void (*truncate_deal)(const psm_aes_key *keys, size_t holders, u64 base, psm_divisor d,
                          const u64 *owed, u64 factor, size_t begin, size_t end,
                          u64 *corrections, size_t n);
    void (*truncate_mask)(const psm_aes_key *key, u64 base, u64 offset, u64 factor, const u64 *z,
                          u64 *out, unsigned halves, size_t begin, size_t end);
    void (*truncate_finish)(const psm_aes_key *key, u64 base, psm_divisor d, int lead,
                            const u64 *c, unsigned halves, const u64 *corrections, const u64 *x,
                            u64 *out, size_t begin, size_t end, size_t n);
    void (*truncate_local)(const u64 *z, unsigned f, int lead, u64 *out, size_t n);

    /* --- reopen.inc.h; [begin, end) elements of n -------------------------- */
    void (*add_lanes)(const u64 *x, const u64 *y, u64 *out, size_t n);
    void (*reopen_deal)(const psm_aes_key *keys, size_t holders, u64 base, unsigned power, size_t begin, size_t end,
                        u64 *corrections, size_t n);
    void (*reopen_mask)(const psm_aes_key *key, u64 base, unsigned power, u64 offset, const u64 *z,
                        const u64 *corrections, u64 *out, size_t begin, size_t end);
    void (*reopen_finish)(const psm_aes_key *key, u64 base, psm_divisor d, int lead, const u64 *c,
                          const u64 *corrections, u64 *out, size_t begin, size_t end, size_t n);
    void (*reopen_message)(const psm_aes_key *key, u64 base, psm_divisor d, int lead, const u64 *c, const u64 *v,
                           u64 *out, size_t begin, size_t end);
    void (*reopen_opened)(psm_divisor d, const u64 *c, const u64 *lanes, u64 *out, size_t begin, size_t end);

    /* --- affine.inc.h; [begin, end) elements of n; y NULL: of a square ------ */
    void (*affine_deal)(const psm_aes_key *keys, size_t holders, u64 base, const psm_known *x, const psm_known *y,
                        size_t n, size_t begin, size_t end, u64 *corrections);
    void (*affine_finish)(const psm_aes_key *key, u64 base, const psm_known *x, const psm_known *y, int lead,
                          const u64 *xs, const u64 *ys, const u64 *corrections, u64 *out, size_t n, size_t begin,
                          size_t end);

    /* --- compare.inc.h; [begin, end) packed words -------------------------- */
    /* chunks: NULL where those of another comparison are used.  masks: r, where it is not a stream of its own */
    void (*compare_deal)(const psm_aes_key *keys, size_t holders, u64 base, int nodes, const u64 *masks,
                         size_t n, size_t begin, size_t end, u64 *chunks, u64 *node, u64 *root);
    void (*compare_chunks)(const psm_aes_key *key, u64 base, u64 known, int nodes, int lead,
                           const u64 *corrections, const u64 *c, u64 offset, size_t n, size_t begin, size_t end,
                           u64 *state, u64 *message);
    void (*compare_nodes)(const psm_aes_key *key, u64 base, int nodes, int lead, const u64 *corrections,
                          const u64 *opened, size_t begin, size_t end, const u64 *state, u64 *sign,
                          u64 *message);
    void (*compare_root)(const psm_aes_key *key, u64 base, int lead, const u64 *corrections,
                         const u64 *opened, size_t begin, size_t end, const u64 *sign,
                         u64 *message);

    /* --- thresholds.inc.h; [begin, end) packed words ------------------------ */
    void (*thresholds_chunks)(const psm_aes_key *key, u64 known, u64 first, u64 rest, u64 apart, int nodes, int lead,
                              const u64 *corrections, const u64 *c, const u64 *ends, size_t count, size_t n,
                              size_t begin, size_t end, u64 *state, u64 *message);
    void (*thresholds_sums)(const psm_aes_key *key, u64 first, u64 rest, u64 apart, int lead, const u64 *corrections,
                            size_t step, const u64 *betas, size_t count, const u64 *weights, const u64 *constants,
                            size_t sums, size_t n, size_t begin, size_t end, u64 *out, size_t between);

    /* --- select.inc.h; [begin, end) packed words --------------------------- */
    void (*bit_deal)(const psm_aes_key *keys, size_t holders, u64 rho, u64 stream, size_t n,
                     size_t begin, size_t end, u64 *corrections);
    void (*bit_share)(const u64 *beta, const u64 *rho, int lead, u64 *out, size_t n);
    void (*select_deal)(const psm_aes_key *keys, size_t holders, u64 base, u64 rho,
                        const psm_divisor *d, size_t n, size_t begin, size_t end,
                        u64 *corrections);
    void (*select_finish)(const psm_aes_key *key, u64 base, const psm_divisor *d, int lead,
                          int flip, const u64 *c, const u64 *beta, const u64 *rho,
                          const u64 *corrections, u64 *out, size_t n, size_t begin, size_t end);

    /* --- securenn.inc.h; [begin, end) packed words -------------------------- */
    void (*snn_bits_deal)(const psm_aes_key *key, u64 stream, const u64 *x, size_t n, size_t begin,
                          size_t end, u64 *out);
    void (*snn_compare)(const psm_aes_key *key, u64 bits, const psm_aes_key *pair, u64 base,
                        int lead, const u64 *corrections, const u64 *r, int less, size_t n,
                        size_t begin, size_t end, u64 *message);
    void (*snn_found)(const u64 *first, const u64 *second, size_t begin, size_t end, u64 *out);

    /* --- odd.inc.h; [first, last) elements ----------------------------------- */
    void (*odd_sum)(const psm_aes_key *key, u64 stream, const u64 *a, const u64 *b, u64 *x,
                    u64 *carry, size_t first, size_t last);
    void (*odd_bits)(const psm_aes_key *key, u64 stream, const u64 *found, size_t n, u64 *out,
                     size_t first, size_t last);
    void (*odd_total)(const psm_aes_key *keys, u64 stream, u64 *out, size_t first, size_t last);
    void (*odd_finish)(const psm_aes_key *key, u64 own, const psm_aes_key *pair, u64 base, int lead,
                       u64 before, u64 after, const u64 *a, const u64 *delta, const u64 *eta,
                       size_t n, u64 *out, size_t first, size_t last);
    void (*odd_double)(const psm_aes_key *key, u64 stream, const u64 *y, u64 *out, size_t first,
                       size_t last);
    void (*odd_opened)(const u64 *sum, const u64 *mine, u64 *out, size_t first, size_t last);
    /* --- fss.inc.h; [begin, end) elements of the [first, last) of one key ---- */
    /* hash: the AES key of the salt.  The dealer's key for alpha [n]; in, out: values where
     * the function holds and elsewhere (zeros for a point), [words, n] */
    void (*fss_deal)(const psm_aes_key *keys, u64 stream, psm_fss f, const psm_aes_key *hash,
                     const u64 *alpha, const u64 *in, const u64 *out, size_t n, size_t first,
                     size_t last, size_t begin, size_t end, u64 *key);
    /* out [words, n] = shares of holder `rank` of the values at x - shift, x [n] public */
    void (*fss_eval)(const psm_aes_key *key, u64 stream, psm_fss f, unsigned rank, const psm_aes_key *hash,
                     const u64 *dealt, const u64 *x, u64 shift, size_t n, size_t first, size_t last,
                     size_t begin, size_t end, u64 *out);
    /* --- fss_bits.inc.h; [begin, end) packed words of the n elements from `first` of one key */
    void (*fss_bits_deal)(const psm_aes_key *keys, u64 mask, u64 stream, unsigned bits, int less,
                          const psm_aes_key *hash, size_t first, size_t n, size_t begin, size_t end, u64 *key);
    void (*fss_bits_eval)(const psm_aes_key *holder, u64 stream, unsigned bits, int less, unsigned rank,
                          const psm_aes_key *hash, const u64 *key, const u64 *x, u64 shift, size_t first, size_t n,
                          size_t begin, size_t end, u64 *out);

    /* --- wide.inc.h; [begin, end) elements of n -------------------------------- */
    void (*wide_pack)(const u64 *x, const u64 *m, int subtract, u64 *out, size_t n, size_t begin, size_t end);
    void (*wide_combine)(const u64 *z, const u64 *x, const u64 *d, const u64 *a, const u64 *e, u64 *out, size_t n,
                         size_t begin, size_t end);
    void (*wide_affine)(const u64 *v, u64 factor, const u64 *dealt, const u64 *c, u64 *out, size_t n, size_t begin,
                        size_t end);
    void (*wide_deal)(const psm_aes_key *keys, size_t holders, u64 stream, u64 first, const u64 *v, int upper, u64 low,
                      u64 high, int subtract, u64 *out, size_t n, size_t begin, size_t end);
    void (*wide_leaves_deal)(const psm_aes_key *keys, size_t holders, u64 mask, u64 stream, u64 alpha, u64 *out,
                             size_t n, size_t begin, size_t end);
    void (*wide_leaves)(const psm_aes_key *key, u64 stream, const u64 *corrections, const u64 *c, u64 factor, u64 *out,
                        u64 *top, size_t n, size_t begin, size_t end);
    void (*wide_join_deal)(const psm_aes_key *keys, size_t holders, u64 masks, u64 stream, u64 alpha, u64 *out,
                           size_t n, size_t begin, size_t end);
    void (*wide_join)(const psm_aes_key *key, u64 masks, const u64 *mask_corrections, u64 stream,
                      const u64 *corrections, const u64 *x, const u64 *opened, u64 *out, size_t n, size_t begin,
                      size_t end);
    /* elements of 3 n and of n; begin: of a tile */
    void (*wide_factors)(const psm_aes_key *key, u64 masks, const u64 *corrections, const u64 *x, const u64 *y,
                         u64 *packed, u64 *rest, u64 *code, size_t n, size_t begin, size_t end);
    void (*wide_count)(const u64 *packed, size_t rows, u64 *out, size_t n, size_t begin, size_t end);

    /* --- turns.inc.h, characters.inc.h, powers.inc.h, gaussian.inc.h, encode.inc.h; [begin, end) elements of n - */
    void (*turns)(const u64 *phase, size_t count, u64 *out, size_t n, size_t begin, size_t end);
    void (*turns_deal)(const psm_aes_key *keys, size_t holders, u64 mask, u64 stream, const psm_angles *a,
                       u64 *corrections, size_t n, size_t begin, size_t end);
    void (*turns_combine)(const psm_aes_key *keys, size_t holders, ptrdiff_t target, u64 stream,
                          const u64 *corrections, const u64 *c, const u64 *coefficients, const psm_angles *a, u64 *out,
                          size_t n, size_t begin, size_t end);
    void (*powers_dealt)(const u64 *r, u64 step, unsigned segments, unsigned shift, u64 *out, size_t n, size_t begin,
                         size_t end);
    void (*powers_public)(const u64 *c, u64 start, u64 step, unsigned segments, const u64 *mantissas, const u64 *shifts,
                          u64 *out, size_t n, size_t begin, size_t end);
    void (*powers_deal)(const psm_aes_key *keys, size_t holders, u64 mask, u64 stream, const psm_window *a,
                        u64 *corrections, size_t n, size_t begin, size_t end);
    void (*powers_combine)(const psm_aes_key *keys, size_t holders, ptrdiff_t target, u64 stream,
                           const u64 *corrections, const u64 *c, const psm_window *a, const u64 *mantissas,
                           const u64 *shifts, u64 *out, size_t n, size_t begin, size_t end);
    void (*gaussian)(const u64 *words, const u64 *thresholds, size_t count, u64 factor, u64 *z, u64 *tied, size_t begin,
                     size_t end);
    void (*encode)(const u64 *values, unsigned size, double scale, u64 *out, size_t begin, size_t end);
} psm_kernels;

#endif
