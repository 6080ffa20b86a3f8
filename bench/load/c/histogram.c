#include "histogram.h"

#include <inttypes.h>

enum { STEPS = 1 << HISTOGRAM_STEP_BITS };

static unsigned bucket_of(uint64_t ns) {
    if (ns < STEPS) return (unsigned)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - HISTOGRAM_STEP_BITS;
    return (shift + 1) * STEPS + (unsigned)((ns >> shift) & (STEPS - 1));
}

static uint64_t highest_in(unsigned bucket) {
    if (bucket < STEPS) return bucket;
    unsigned shift = bucket / STEPS - 1;
    uint64_t lowest = (uint64_t)(STEPS + bucket % STEPS) << shift;
    return lowest + ((1ull << shift) - 1);
}

void histogram_add(struct histogram *histogram, uint64_t ns) {
    histogram->counts[bucket_of(ns)]++;
    if (ns > histogram->max_ns) histogram->max_ns = ns;
}

void histogram_print(const struct histogram *histogram, FILE *out) {
    const char *comma = "";
    fputc('[', out);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (histogram->counts[i] == 0) continue;
        fprintf(out, "%s[%" PRIu64 ",%" PRIu64 "]", comma, highest_in(i), histogram->counts[i]);
        comma = ",";
    }
    fputc(']', out);
}
