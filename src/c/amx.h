/* Ring products on the tile registers of AMX, for shapes where they pay; those of ring.h elsewhere. */
#ifndef PSM_AMX_H
#define PSM_AMX_H

#include "ring.h"

/* Asks the system for the tile registers and multiplies some matrices on them: NULL if all products are
 * those of the portable kernel, else why the tiles are not to be used. Once, before the others. */
const char *psm_amx_start(void);

/* as matmul and matmul_work of ring.h */
void psm_amx_matmul(size_t m, size_t n, size_t k, psm_view a, psm_view b, u64 *c, ptrdiff_t ldc,
                    int accumulate, u64 *work);
size_t psm_amx_matmul_work(size_t m, size_t n, size_t k);

#endif
