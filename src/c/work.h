/* Scratch memory of a thread: grows, is kept, and is freed when the thread ends. */
#ifndef PSM_WORK_H
#define PSM_WORK_H

#include "ring.h"

/* At least `words` words, 64-byte aligned; NULL where memory is short.  Valid until
 * the thread's next call. */
u64 *psm_work(size_t words);

#endif
