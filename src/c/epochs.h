/* Keys that follow from a key and from what its owners were told (ring.h). */
#ifndef PSM_EPOCHS_H
#define PSM_EPOCHS_H

#include "ring.h"

/* Begin an epoch of a key with 32 bytes; 0, or -1 where there is no memory.
 *
 * The key of the epoch is the CBC-MAC of the 32 bytes under the key: a pseudo-random
 * function of inputs of one length (Bellare, Kilian and Rogaway, "The security of the
 * cipher block chaining message authentication code", JCSS 61, 2000). */
int psm_epochs_follow(psm_aes_key *key, const uint8_t *digest);

/* Wipe and free the keys of all epochs. */
void psm_epochs_free(psm_aes_key *key);

#endif
