/* The threads that torch computes with. */
#ifndef PSM_TEAM_H
#define PSM_TEAM_H

/* task(ctx) on some of `threads` threads, the caller always among them, and 1 when all
 * are done; 0, and nothing done, where torch's threads are not OpenMP's or must not be
 * used, as in a child of fork. */
int psm_team(int threads, void (*task)(void *ctx), void *ctx);

#endif
