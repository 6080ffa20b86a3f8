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
};

/* Reads the file; ends the program with a message when a line is malformed. */
void plan_read(struct plan *plan, const char *path, int epoll);

#endif
