/* What one connection has seen of one publisher: exact, whatever the server does to the stream. */
#ifndef BENCH_LEDGER_H
#define BENCH_LEDGER_H

#include <stddef.h>
#include <stdint.h>

struct hole {
    uint64_t from, to; /* both missing, and all between them */
};

struct track {
    uint64_t first, last; /* first and highest sequence seen; 0 before the first */
    struct hole *holes;   /* what was skipped and has not come since, in rising order */
    size_t hole_count, hole_capacity;
};

enum seen {
    SEEN_NEXT,      /* as it should be */
    SEEN_AHEAD,     /* the first time, but those between are missing so far */
    SEEN_LATE,      /* the first time, after a later one: out of order */
    SEEN_DUPLICATE, /* seen before */
};

enum seen track_note(struct track *track, uint64_t sequence);

/* How many of `published` never came, counted from the first one seen. */
uint64_t track_lost(const struct track *track, uint64_t published);

#endif
