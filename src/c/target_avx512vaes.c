/* Kernels for x86 with AVX-512 F, DQ, BW, VL, BMI2, AES-NI and VAES;
 * nothing on other machines. */
#include "ring.h"

#ifdef __x86_64__

#include <immintrin.h>
#include <string.h>

#include "dispatch.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target( \
    "avx512f,avx512dq,avx512bw,avx512vl,vaes,avx2,bmi2,aes"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,vaes,avx2,bmi2,aes,prefer-vector-width=512")
#endif

#define PSM_REGISTER 8 /* words */
#include "aes_vaes.inc.h"
#include "matmul_avx512.inc.h"
#include "kernels.inc.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const psm_kernels psm_kernels_avx512vaes = PSM_KERNELS("avx512vaes");

#else
typedef int psm_nothing_here;
#endif
