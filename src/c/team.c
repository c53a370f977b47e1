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
 * threads that a smaller region does not need and starts them again for the next. It
 * ends when all of them have come, even if there was nothing left to do. On a machine
 * that has other work they, or the caller, may have to wait for a core for many times as
 * long as a kernel takes; a caller that lost that much does without them for a while.
 */
#define _GNU_SOURCE
#include "team.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* ns that are not much to lose; how many times as long one does without */
enum { LATE = 1000000, WITHOUT = 16 };

typedef void region_call(void (*task)(void *), void *ctx, unsigned threads, unsigned flags);

typedef struct {
    void (*task)(void *ctx);
    void *ctx;
    pthread_t caller;
    int64_t worked; /* processor time of the caller when its work was done */
} region;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static region_call *parallel;
static atomic_int forked; /* the threads of the parent's team are not here */
static _Atomic int64_t alone_until;

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

static int64_t ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void run(void *context) {
    region *r = context;
    r->task(r->ctx);
    if (pthread_equal(r->caller, pthread_self())) r->worked = ns(CLOCK_THREAD_CPUTIME_ID);
}

int psm_team(int threads, void (*task)(void *ctx), void *ctx) {
    pthread_once(&once, find);
    if (!parallel || atomic_load(&forked)) return 0;
    int64_t start = ns(CLOCK_MONOTONIC);
    if (start < atomic_load(&alone_until)) {
        task(ctx);
        return 1;
    }
    region r = {task, ctx, pthread_self(), 0};
    int64_t before = ns(CLOCK_THREAD_CPUTIME_ID);
    parallel(run, &r, (unsigned)threads, 0);
    int64_t end = ns(CLOCK_MONOTONIC), own = r.worked - before, lost = end - start - own;
    /* the others' last tasks may take as long as all of the caller's */
    if (lost > LATE + own) atomic_store(&alone_until, end + WITHOUT * lost);
    return 1;
}
