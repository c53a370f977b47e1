/* Keys that follow from a key and from what its owners were told. */
#include "epochs.h"

#include <stdlib.h>
#include <string.h>

#include "dispatch.h"

/* Twice the room, in new memory, as realloc would leave keys behind in the old. */
static int grow(psm_epochs *epochs) {
    size_t room = epochs->room ? 2 * epochs->room : PSM_RECENT;
    uint8_t *keys = calloc(room, 16);

    if (keys == NULL) return -1;
    if (epochs->room) {
        memcpy(keys, epochs->keys, 16 * epochs->room);
        memset(epochs->keys, 0, 16 * epochs->room);
        free(epochs->keys);
    }
    epochs->keys = keys;
    epochs->room = room;
    return 0;
}

int psm_epochs_follow(psm_aes_key *key, const uint8_t *digest) {
    const psm_kernels *kernels = psm_kernels_get();
    psm_epochs *epochs = (psm_epochs *)key->epochs;
    uint8_t block[16], *out;

    if (epochs == NULL) {
        epochs = calloc(1, sizeof *epochs);
        if (epochs == NULL) return -1;
        key->epochs = epochs;
    }
    if (epochs->count == epochs->room && grow(epochs)) return -1;
    out = epochs->keys + 16 * epochs->count;
    kernels->aes_blocks(key, digest, block, 1);
    for (int i = 0; i < 16; i++) block[i] ^= digest[16 + i];
    kernels->aes_blocks(key, block, out, 1);
    kernels->aes_expand(out, &epochs->recent[epochs->count % PSM_RECENT]);
    epochs->count++;
    return 0;
}

void psm_epochs_free(psm_aes_key *key) {
    psm_epochs *epochs = (psm_epochs *)key->epochs;

    if (epochs == NULL) return;
    if (epochs->room) {
        memset(epochs->keys, 0, 16 * epochs->room);
        free(epochs->keys);
    }
    memset(epochs, 0, sizeof *epochs);
    free(epochs);
    key->epochs = NULL;
}
