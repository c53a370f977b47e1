/* Kernels for any little-endian machine, compiled for the compiler's default. */
#include <string.h>

#include "dispatch.h"
#include "ring.h"

#define PSM_REGISTER 2 /* words */
#include "aes_soft.inc.h"
#include "matmul_portable.inc.h"
#include "kernels.inc.h"

const psm_kernels psm_kernels_portable = PSM_KERNELS("portable");
