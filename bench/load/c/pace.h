/* Sends at a given rate, whatever the server does: what waits for its turn counts as late from when it was due. */
#ifndef BENCH_PACE_H
#define BENCH_PACE_H

#include "run.h"

/* The epoll data of the timer; no connection has this number. */
#define PACE_TIMER UINT32_MAX

/* Makes the timer, if there is a rate. */
void pace_prepare(struct run *run);

/* From `now_ns` on, publishers and pingers send in turn. */
void pace_begin(struct run *run, uint64_t now_ns);

/* Sends what is due, and wakes epoll when the next is. True: so much is due that not all of it was sent. */
bool pace_send(struct run *run, uint64_t now_ns);

#endif
