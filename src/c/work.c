/* See work.h. */
#include "work.h"

#include <pthread.h>
#include <stdlib.h>

typedef struct {
    u64 *data;
    size_t words;
} workspace;

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void release(void *p) {
    workspace *w = p;
    free(w->data);
    free(w);
}

static void make_key(void) { pthread_key_create(&key, release); }

u64 *psm_work(size_t words) {
    pthread_once(&once, make_key);
    workspace *w = pthread_getspecific(key);
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w || pthread_setspecific(key, w)) return NULL;
    }
    if (w->words < words) {
        size_t rounded = (words + 8) & ~(size_t)7;
        free(w->data);
        w->data = aligned_alloc(64, rounded * sizeof(u64));
        w->words = w->data ? rounded : 0;
    }
    return w->data;
}
