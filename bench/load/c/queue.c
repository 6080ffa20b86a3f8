#include "queue.h"

#include <stdlib.h>

static void grow(struct queue *queue) {
    size_t capacity = queue->capacity ? queue->capacity * 2 : 4;
    uint64_t *values = malloc(capacity * sizeof *values);
    if (!values) abort();
    for (size_t i = 0; i < queue->count; i++)
        values[i] = queue->values[(queue->first + i) & (queue->capacity - 1)];
    free(queue->values);
    *queue = (struct queue){.values = values, .count = queue->count, .capacity = capacity};
}

void queue_put(struct queue *queue, uint64_t value) {
    if (queue->count == queue->capacity) grow(queue);
    queue->values[(queue->first + queue->count++) & (queue->capacity - 1)] = value;
}

uint64_t queue_take(struct queue *queue) {
    uint64_t value = queue->values[queue->first];
    queue->first = (queue->first + 1) & (queue->capacity - 1);
    queue->count--;
    return value;
}
