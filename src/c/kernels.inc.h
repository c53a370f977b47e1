/* Every kernel body, for the target that includes this file after choosing a
 * cipher (aes_*.inc.h), a product (matmul_*.inc.h) and the words of its vector registers
 * (PSM_REGISTER: 2, 4 or 8), and the table of them.
 *
 * To add a kernel: name it in ring.h, write psm_<name> as a static function in
 * an .inc.h file, include that here, and add its row.
 */
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors are passed between static functions only */

#include "prg.inc.h"
#include "matmul.inc.h"
#ifdef PSM_PAIRS
#include "matmul_pair_avx2.inc.h"
#else
#define psm_matmul_pair NULL
#define psm_matmul_pair_work NULL
#endif
#include "arith.inc.h"
#include "bits.inc.h"
#include "direct.inc.h"
#include "truncate.inc.h"
#include "affine.inc.h"
#include "reopen.inc.h"
#include "compare.inc.h"
#include "thresholds.inc.h"
#include "filtering.inc.h"
#include "select.inc.h"
#include "securenn.inc.h"
#include "odd.inc.h"
#include "fss.inc.h"
#include "fss_bits.inc.h"
#include "wide.inc.h"
#include "turns.inc.h"
#include "characters.inc.h"
#include "powers.inc.h"
#include "gaussian.inc.h"
#include "encode.inc.h"

#define PSM_KERNELS(NAME) \
    { \
        .name = NAME, \
        .aes_expand = psm_aes_expand, \
        .aes_blocks = psm_aes_blocks, \
        .prg_fill = psm_prg_fill, \
        .prg_add = psm_prg_add, \
        .prg_sub = psm_prg_sub, \
        .prg_xor = psm_prg_xor, \
        .matmul = psm_matmul, \
        .matmul_work = psm_matmul_work, \
        .matmul_pair = psm_matmul_pair, \
        .matmul_pair_work = psm_matmul_pair_work, \
        .lanes_rows = LANES_ROWS, \
        .dots_rows = DOTS_ROWS, \
        .lanes = psm_lanes, \
        .dots = psm_dots, \
        .filter_windows = psm_filter_windows, \
        .filter_taps = psm_filter_taps, \
        .filter_results = psm_filter_results, \
        .add = psm_add, \
        .sub = psm_sub, \
        .mul = psm_mul, \
        .xor_ = psm_xor, \
        .scale = psm_scale, \
        .rows_sum = psm_rows_sum, \
        .rows_xor = psm_rows_xor, \
        .rows_extremes = psm_rows_extremes, \
        .weighted = psm_weighted, \
        .combinations = psm_combinations, \
        .beaver_mul = psm_beaver_mul, \
        .beaver_square = psm_beaver_square, \
        .pack_bits = psm_pack_bits, \
        .unpack_bits = psm_unpack_bits, \
        .decompose = psm_decompose, \
        .truncate_deal = psm_truncate_deal, \
        .truncate_mask = psm_truncate_mask, \
        .truncate_finish = psm_truncate_finish, \
        .truncate_local = psm_truncate_local, \
        .affine_deal = psm_affine_deal, \
        .affine_finish = psm_affine_finish, \
        .add_lanes = psm_add_lanes, \
        .reopen_deal = psm_reopen_deal, \
        .reopen_mask = psm_reopen_mask, \
        .reopen_finish = psm_reopen_finish, \
        .reopen_message = psm_reopen_message, \
        .reopen_opened = psm_reopen_opened, \
        .compare_deal = psm_compare_deal, \
        .compare_chunks = psm_compare_chunks, \
        .compare_nodes = psm_compare_nodes, \
        .compare_root = psm_compare_root, \
        .thresholds_chunks = psm_thresholds_chunks, \
        .thresholds_sums = psm_thresholds_sums, \
        .bit_deal = psm_bit_deal, \
        .bit_share = psm_bit_share, \
        .select_deal = psm_select_deal, \
        .select_finish = psm_select_finish, \
        .snn_bits_deal = psm_snn_bits_deal, \
        .snn_compare = psm_snn_compare, \
        .snn_found = psm_snn_found, \
        .odd_sum = psm_odd_sum, \
        .odd_bits = psm_odd_bits, \
        .odd_total = psm_odd_total, \
        .odd_finish = psm_odd_finish, \
        .odd_double = psm_odd_double, \
        .odd_opened = psm_odd_opened, \
        .fss_deal = psm_fss_deal, \
        .fss_eval = psm_fss_eval, \
        .fss_bits_deal = psm_fss_bits_deal, \
        .fss_bits_eval = psm_fss_bits_eval, \
        .wide_pack = psm_wide_pack, \
        .wide_combine = psm_wide_combine, \
        .wide_affine = psm_wide_affine, \
        .wide_deal = psm_wide_deal, \
        .wide_leaves_deal = psm_wide_leaves_deal, \
        .wide_leaves = psm_wide_leaves, \
        .wide_join_deal = psm_wide_join_deal, \
        .wide_join = psm_wide_join, \
        .wide_factors = psm_wide_factors, \
        .wide_count = psm_wide_count, \
        .turns = psm_turns, \
        .turns_deal = psm_turns_deal, \
        .turns_combine = psm_turns_combine, \
        .powers_dealt = psm_powers_dealt, \
        .powers_public = psm_powers_public, \
        .powers_deal = psm_powers_deal, \
        .powers_combine = psm_powers_combine, \
        .gaussian = psm_gaussian, \
        .encode = psm_encode, \
    }
