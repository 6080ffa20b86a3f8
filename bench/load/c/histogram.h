/* Latencies in log-linear buckets: 32 to each power of two, so a value is known to about 3 %. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

enum { HISTOGRAM_STEP_BITS = 5, HISTOGRAM_BUCKETS = (64 - HISTOGRAM_STEP_BITS + 1) << HISTOGRAM_STEP_BITS };

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t max_ns;
};

void histogram_add(struct histogram *histogram, uint64_t ns);

/* Prints the buckets in use as JSON: [[highest nanoseconds in the bucket, count], ...], rising. */
void histogram_print(const struct histogram *histogram, FILE *out);

#endif
