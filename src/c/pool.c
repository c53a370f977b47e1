/* The pool behind psm_parallel.
 *
 * One job at a time: `taken` is held by the thread whose job it is, and anyone
 * who finds it held works alone, which is right both for a second Python thread
 * and for a task that itself asks for parallelism. Torch's threads do the job
 * where they can be had (team.h), and otherwise workers of this file.
 *
 * A job lives on its owner's stack; a worker enters it under the lock and is
 * counted, and the owner withdraws the job and waits for that count to fall to
 * zero, so no worker can see it afterwards.
 *
 * An idle worker watches `jobs` for SPIN_NS, to be quick between the kernels of
 * one protocol step, and then sleeps, to leave the core to others. Workers are
 * started at the first job that can use them, block every signal, do not
 * survive fork (the child starts its own) and are joined at exit.
 */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "team.h"

enum { MAX_THREADS = 256, SPIN_NS = 20000 };

typedef struct {
    void (*task)(void *ctx, size_t index);
    void *ctx;
    size_t tasks;
    atomic_size_t next;
    int inside; /* workers, under the lock */
} job;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake, left;
    pthread_t workers[MAX_THREADS];
    int started, asleep, stopping;
    job *current;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .left = PTHREAD_COND_INITIALIZER};

static atomic_uint jobs;               /* changes when there is something to see */
static atomic_int threads = 1;
static atomic_int taken;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void work_on(void *context) {
    job *j = context;
    size_t i;
    while ((i = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed)) < j->tasks)
        j->task(j->ctx, i);
}

/* --- workers --- */

static void spin_until_not(unsigned seen) {
    int64_t end = now_ns() + SPIN_NS;
    while (atomic_load_explicit(&jobs, memory_order_acquire) == seen && now_ns() < end) relax();
}

static void *worker(void *unused) {
    unsigned seen = 0;

    (void)unused;
    pthread_mutex_lock(&pool.lock);
    while (!pool.stopping) {
        job *j = pool.current;
        unsigned latest = atomic_load(&jobs);
        if (j && latest != seen) {
            seen = latest;
            j->inside++;
            pthread_mutex_unlock(&pool.lock);
            work_on(j);
            pthread_mutex_lock(&pool.lock);
            if (--j->inside == 0) pthread_cond_signal(&pool.left);
            pthread_mutex_unlock(&pool.lock);
            spin_until_not(seen);
            pthread_mutex_lock(&pool.lock);
        } else {
            seen = latest;
            pool.asleep++;
            pthread_cond_wait(&pool.wake, &pool.lock);
            pool.asleep--;
        }
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

static void stop_workers(void) {
    pthread_mutex_lock(&pool.lock);
    pool.stopping = 1;
    atomic_fetch_add(&jobs, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < pool.started; i++) pthread_join(pool.workers[i], NULL);
    pool.started = 0;
    pool.stopping = 0;
}

/* with `taken` held; fewer start if the system refuses */
static void start_workers(int wanted) {
    sigset_t all, before;

    if (pool.started >= wanted) return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.started < wanted &&
           pthread_create(&pool.workers[pool.started], NULL, worker, NULL) == 0)
        pool.started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* --- fork and exit --- */

static void before_fork(void) { pthread_mutex_lock(&pool.lock); }

static void after_fork_parent(void) { pthread_mutex_unlock(&pool.lock); }

static void after_fork_child(void) {
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.left, NULL);
    pool.started = pool.asleep = pool.stopping = 0;
    pool.current = NULL;
    atomic_store(&taken, 0);
}

__attribute__((constructor)) static void at_load(void) {
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

__attribute__((destructor)) static void at_exit(void) { stop_workers(); }

/* --- the owner of a job --- */

static int take(void) {
    int free_ = 0;
    return atomic_compare_exchange_strong(&taken, &free_, 1);
}

static void publish(job *j) {
    pthread_mutex_lock(&pool.lock);
    pool.current = j;
    atomic_fetch_add_explicit(&jobs, 1, memory_order_release);
    if (pool.asleep) pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
}

static void withdraw(job *j) {
    pthread_mutex_lock(&pool.lock);
    pool.current = NULL;
    while (j->inside) pthread_cond_wait(&pool.left, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

void psm_parallel(size_t tasks, void (*task)(void *ctx, size_t index), void *ctx) {
    job j = {.task = task, .ctx = ctx, .tasks = tasks};
    int wanted = atomic_load(&threads) - 1;

    if (tasks > 1 && wanted > 0 && take()) {
        if (!psm_team(wanted + 1, work_on, &j)) {
            start_workers(wanted);
            publish(&j);
            work_on(&j);
            withdraw(&j);
        }
        atomic_store(&taken, 0);
    } else {
        work_on(&j);
    }
}

void psm_set_threads(int wanted) {
    wanted = wanted < 1 ? 1 : wanted > MAX_THREADS ? MAX_THREADS : wanted;
    while (!take()) sched_yield();
    if (pool.started > wanted - 1) stop_workers();
    atomic_store(&threads, wanted);
    atomic_store(&taken, 0);
}

int psm_get_threads(void) { return atomic_load(&threads); }
