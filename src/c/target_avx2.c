/* Kernels for x86 with AVX2, BMI2 and AES-NI;
 * nothing on other machines. */
#include "ring.h"

#ifdef __x86_64__

#include <immintrin.h>
#include <string.h>

#include "dispatch.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target( \
    "avx2,bmi2,aes"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,bmi2,aes")
#endif

#define PSM_REGISTER 4 /* words */
#define PSM_PAIRS      /* products of two holders at once */
#include "aes_ni.inc.h"
#include "matmul_avx2.inc.h"
#include "kernels.inc.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const psm_kernels psm_kernels_avx2 = PSM_KERNELS("avx2");

#else
typedef int psm_nothing_here;
#endif
