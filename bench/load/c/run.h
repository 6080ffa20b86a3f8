/* One run: connect, probe until every member hears every publisher, warm up, measure, drain. Or, where joining
   is what is measured: connect, and rest. */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include <stdint.h>

#include "histogram.h"
#include "options.h"
#include "plan.h"

enum phase { PHASE_CONNECT, PHASE_PROBE, PHASE_WARM_UP, PHASE_MEASURE, PHASE_DRAIN, PHASE_REST, PHASE_DONE };

/* Counted over the whole run, so that nothing is missed at the edges of the measured window. */
struct tally {
    uint64_t duplicated, out_of_order;
    uint64_t malformed;    /* a text that was cut or altered */
    uint64_t strayed;      /* a text of another room, or one that was never published */
    uint64_t other_frames; /* joins, acknowledgements and whatever else a server says */
    uint64_t disconnected;
    unsigned close_code; /* of the first connection that the server closed, 0 if it said none */
};

/* The measured window. With a rate, what was sent in it counts whenever it comes, else what comes in it. */
struct window {
    uint64_t start_ns, end_ns, cpu_start_ns, cpu_end_ns;
    uint64_t published, delivered, received_bytes;
    uint64_t crowd_delivered, noise_answered;
    struct histogram latency;
};

struct pace {
    int timer;
    struct link **links; /* those that send in turn */
    uint64_t begin_ns, sent;
};

struct run {
    struct options options;
    struct plan plan;
    struct tally tally;
    struct window window;
    struct pace pace;
    struct bytes noise;
    enum phase phase;
    int epoll;
    struct ssl_ctx_st *tls; /* NULL: clear text */
    uint64_t origin_ns;      /* of the clock; every other time counts from here */
    uint64_t phase_ns;       /* when the phase began */
    uint64_t probe_ns;       /* when the last probe was sent */
    uint64_t arrival_ns;     /* when the last text came */
    size_t begun, welcomed;  /* connections started, connections in their rooms */
    uint64_t unheard;        /* pairs of member and publisher that have not met yet */
    int64_t behind;          /* deliveries due to open connections */
    int64_t skipped;         /* deliveries passed over and not come since */
    uint32_t mask;
    char *buffer, *message;
    size_t message_bytes;
    long room_at; /* where the message names its room; -1: it does not */
};

/* Ends the program with a message if the server does not let it come to a measurement. */
void run_all(struct run *run);

/* Nanoseconds since the generator started. */
uint64_t run_elapsed_ns(const struct run *run);

/* Whether messages are sent without end: in the warm-up and the measured window. */
bool run_is_sending(const struct run *run);

/* Counts a message as published, sent at `sent_ns`. */
void run_published(struct run *run, uint64_t sent_ns, uint64_t count);

/* Counts a delivery of a message sent at `sent_ns`, and how long it took. */
void run_delivered(struct run *run, uint64_t sent_ns, uint64_t now_ns);

/* Deliveries that never came, to whichever connection; those that ended early included. */
uint64_t run_lost(const struct run *run);

#endif
