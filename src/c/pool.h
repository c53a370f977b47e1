/* A small thread pool for kernels. */
#ifndef PSM_POOL_H
#define PSM_POOL_H

#include <stddef.h>

/* task(ctx, i) for each i < tasks, in any order, on up to psm_get_threads()
 * threads, the caller among them; returns when all are done. May be called by
 * several threads at once and from inside a task: whoever finds the pool taken
 * runs its own tasks alone. */
void psm_parallel(size_t tasks, void (*task)(void *ctx, size_t index), void *ctx);

/* threads a job may use, the caller included; 1 until set, kept within 1..256.
 * Not to be called from inside a task. */
void psm_set_threads(int threads);
int psm_get_threads(void);

#endif
