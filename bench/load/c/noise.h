/* Connections that send the same message without pause, to disturb the others. */
#ifndef BENCH_NOISE_H
#define BENCH_NOISE_H

#include "run.h"

/* Reads the message, if there is one. */
void noise_prepare(struct run *run);

/* Sends what may be in flight on every such connection. */
void noise_make(struct run *run);

/* Takes the answer to one message. */
void noise_answered(struct run *run, struct link *link);

#endif
