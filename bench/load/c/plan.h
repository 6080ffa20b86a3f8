/* Who connects, to which room, and who publishes there. */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "link.h"

struct publisher {
    struct link *link;
    uint32_t room;
    uint64_t published; /* the last sequence given out */
    bool observed;      /* whether what it says is measured */
};

struct room {
    uint32_t open; /* connections that stand */
    uint32_t first_publisher, publisher_count;
};

struct plan {
    struct link *links;
    size_t link_count;
    struct room *rooms;
    size_t room_count;
    struct publisher *publishers; /* those of one room stand side by side */
    size_t publisher_count;
    size_t paced_count; /* connections that send at the given rate, if one is given */
};

/* Reads the file: a line `room role target` for each connection; ends the program with a message when one is
   malformed. */
void plan_read(struct plan *plan, const char *path, int epoll);

#endif
