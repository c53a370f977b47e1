/* See work.h. */
#include "work.h"

#include <pthread.h>
#include <stdlib.h>

#include "pages.h"

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

/* A large piece is whole large pages: with pages of 4 KB the factors of a product need more of them than the
 * processor's table of translated addresses (TLB) has room for. */
static u64 *piece(size_t *words) {
    size_t unit = *words < PSM_LARGE_PAGE / sizeof(u64) / 2 ? 64 : PSM_LARGE_PAGE, bytes = *words * sizeof(u64);
    bytes = (bytes + unit) & ~(unit - 1);
    *words = bytes / sizeof(u64);
    u64 *out = aligned_alloc(unit, bytes);
    if (out && unit == PSM_LARGE_PAGE) psm_large_pages(out, bytes);
    return out;
}

u64 *psm_work(int slot, size_t words) {
    pthread_once(&once, make_key);
    workspace *w = pthread_getspecific(key);
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w || pthread_setspecific(key, w)) return NULL;
    }
    if (w->words[slot] < words || !w->data[slot]) {
        size_t rounded = words;
        free(w->data[slot]);
        w->data[slot] = piece(&rounded);
        w->words[slot] = w->data[slot] ? rounded : 0;
    }
    return w->data[slot];
}
