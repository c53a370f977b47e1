/* See work.h. */
#include "work.h"

#include <pthread.h>
#include <stdlib.h>

typedef struct {
    u64 *data[PSM_SLOTS];
    size_t words[PSM_SLOTS];
} workspace;

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void release(void *p) {
    workspace *w = p;
    for (int slot = 0; slot < PSM_SLOTS; slot++) free(w->data[slot]);
    free(w);
}

static void make_key(void) { pthread_key_create(&key, release); }

u64 *psm_work(int slot, size_t words) {
    pthread_once(&once, make_key);
    workspace *w = pthread_getspecific(key);
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w || pthread_setspecific(key, w)) return NULL;
    }
    if (w->words[slot] < words || !w->data[slot]) {
        size_t rounded = (words + 8) & ~(size_t)7;
        free(w->data[slot]);
        w->data[slot] = aligned_alloc(64, rounded * sizeof(u64));
        w->words[slot] = w->data[slot] ? rounded : 0;
    }
    return w->data[slot];
}
