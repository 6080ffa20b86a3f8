/* Times in the order they were put in. */
#ifndef BENCH_QUEUE_H
#define BENCH_QUEUE_H

#include <stddef.h>
#include <stdint.h>

struct queue {
    uint64_t *values;
    size_t first, count, capacity; /* the capacity is a power of two, or 0 */
};

void queue_put(struct queue *queue, uint64_t value);

/* Takes out the oldest; there must be one. */
uint64_t queue_take(struct queue *queue);

#endif
