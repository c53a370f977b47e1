/* Every kernel behind one call: its arguments as words in an array, and what each of them is.
 *
 * A slot is a number, or the address of words, of keys (psm_holders) or of a public constant
 * (psm_divisor, psm_fss).  `declared` names the slots in order and says what the kernel does with each:
 *     keys          keys of the hosted holders
 *     stream        number of a stream
 *     divisor, function        public constants
 *     in, out, inout           words in a row that are read, written in full, or read and written
 *     view          words that are read, at the strides that other slots give
 *     list          an array of addresses of words that are read
 * A slot of one word alone is a number.  A question mark stands behind what may be NULL.
 */
#ifndef PSM_LAUNCH_H
#define PSM_LAUNCH_H

#include "ring.h"

enum { PSM_SLOTS = 40 }; /* no kernel has more */

typedef struct {
    const char *name;
    const char *declared;
    int (*enter)(const u64 *slots); /* 0, or -1 where memory is short */
} psm_entry;

/* ends with a name of NULL */
extern const psm_entry psm_entries[];

/* Kernels one after the other, `starts` being where the slots of each begin; 0, or -1 after the first that failed. */
int psm_run(const psm_entry *const *entries, const size_t *starts, const u64 *slots, size_t count);

#endif
