#include "noise.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traffic.h"

enum { MAX_NOISE_BYTES = 1 << 24 };

void noise_prepare(struct run *run) {
    if (*run->options.noise == '\0') return;
    FILE *file = fopen(run->options.noise, "rb");
    if (!file) fail("the noise cannot be read: %s", strerror(errno));
    run->noise.data = malloc(MAX_NOISE_BYTES);
    if (!run->noise.data) fail("out of memory");
    run->noise.count = fread(run->noise.data, 1, MAX_NOISE_BYTES, file);
    fclose(file);
    if (run->noise.count == 0 || run->noise.count == MAX_NOISE_BYTES) fail("there is no noise, or too much");
}

/* What the kernel has not taken of one message goes before the next. */
static void make(struct run *run, struct link *link) {
    uint64_t most = run->options.noise_in_flight;
    while (link->state == LINK_OPEN && link->unsent.count == 0 && (most == 0 || link->outstanding < most)) {
        link->outstanding++;
        if (!link_send(link, run->noise.data, run->noise.count)) traffic_drop(run, link, 0);
    }
}

void noise_make(struct run *run) {
    if (run->noise.count == 0 || !run_is_sending(run)) return;
    for (size_t i = 0; i < run->plan.link_count; i++)
        if (run->plan.links[i].role == ROLE_NOISE) make(run, &run->plan.links[i]);
}

void noise_answered(struct run *run, struct link *link) {
    if (link->outstanding) link->outstanding--;
    if (run->phase == PHASE_MEASURE) run->window.noise_answered++;
}
