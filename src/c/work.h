/* Scratch memory of a thread: grows, is kept, and is freed when the thread ends. */
#ifndef PSM_WORK_H
#define PSM_WORK_H

#include "ring.h"

enum { PSM_SLOTS = 13 };

/* At least `words` words, 64-byte aligned; NULL where memory is short.  Valid until
 * the thread's next call for the same slot. */
u64 *psm_work(int slot, size_t words);

#endif
