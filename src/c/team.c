/* See team.h.
 *
 * A parallel region of GNU's OpenMP is one call, and the runtimes of LLVM and Intel
 * answer to it as well. Its threads watch for the next region for some milliseconds
 * before they sleep, so threads of our own beside them would have to share the cores
 * with threads that only watch (decision 12). The call is looked for where torch's own
 * calls go: what the process offers to all, then what torch was linked with; nothing is
 * loaded here, and without torch there is no team.
 *
 * A region has the number of threads that torch's have, since the runtime ends the
 * threads that a smaller region does not need and starts them again for the next.
 */
#define _GNU_SOURCE
#include "team.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

typedef void region(void (*task)(void *), void *ctx, unsigned threads, unsigned flags);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static region *parallel;
static atomic_int forked; /* the threads of the parent's team are not here */

static void find(void) {
#ifdef RTLD_DEFAULT
    *(void **)&parallel = dlsym(RTLD_DEFAULT, "GOMP_parallel");
#endif
#ifdef RTLD_NOLOAD
    void *torch = parallel ? NULL : dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
    if (torch) *(void **)&parallel = dlsym(torch, "GOMP_parallel");
#endif
}

static void in_child(void) { atomic_store(&forked, 1); }

__attribute__((constructor)) static void at_load(void) { pthread_atfork(NULL, NULL, in_child); }

int psm_team(int threads, void (*task)(void *ctx), void *ctx) {
    pthread_once(&once, find);
    if (!parallel || atomic_load(&forked)) return 0;
    parallel(task, ctx, (unsigned)threads, 0);
    return 1;
}
