#define _GNU_SOURCE
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

#include "noise.h"
#include "pace.h"
#include "template.h"
#include "traffic.h"

enum {
    MAX_EVENTS = 1024,
    PROBE_MS = 1000, /* a member that was not in its room yet has missed the probe before */
    QUIET_MS = 200,  /* nothing is due any more; only a duplicate could still come */
    IDLE_WAIT_MS = 10,
};

static const uint64_t NS_PER_MS = 1000 * 1000;

uint64_t run_elapsed_ns(const struct run *run) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec - run->origin_ns;
}

static uint64_t cpu_ns(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000u;
}

static void enter(struct run *run, enum phase phase, uint64_t now_ns) {
    run->phase = phase;
    run->phase_ns = now_ns;
}

static void say(const char *event) {
    printf("{\"event\":\"%s\"}\n", event);
    fflush(stdout);
}

static void begin_warm_up(struct run *run, uint64_t now_ns) {
    say("joined");
    enter(run, PHASE_WARM_UP, now_ns);
    traffic_stall(run);
    pace_begin(run, now_ns);
    traffic_fill(run);
}

static void begin_measuring(struct run *run, uint64_t now_ns) {
    say("measuring");
    enter(run, PHASE_MEASURE, now_ns);
    run->window.start_ns = now_ns;
    run->window.cpu_start_ns = cpu_ns();
}

static void end_measuring(struct run *run, uint64_t now_ns) {
    say("measured");
    enter(run, PHASE_DRAIN, now_ns);
    run->window.end_ns = now_ns;
    run->window.cpu_end_ns = cpu_ns();
    run->arrival_ns = now_ns;
}

bool run_is_sending(const struct run *run) {
    return run->phase == PHASE_WARM_UP || run->phase == PHASE_MEASURE;
}

/* Without a rate a server that is late is sent less, so only what comes in the window says how much it does.
   With one, what is still on its way at the end must not be left out: it is what took longest. */
static bool counts(const struct run *run, uint64_t sent_ns) {
    if (run->options.rate == 0 || run->phase < PHASE_MEASURE) return run->phase == PHASE_MEASURE;
    return run->window.start_ns <= sent_ns && (run->phase == PHASE_MEASURE || sent_ns < run->window.end_ns);
}

void run_published(struct run *run, uint64_t sent_ns, uint64_t count) {
    if (counts(run, sent_ns)) run->window.published += count;
}

void run_delivered(struct run *run, uint64_t sent_ns, uint64_t now_ns) {
    if (!counts(run, sent_ns)) return;
    run->window.delivered++;
    histogram_add(&run->window.latency, now_ns > sent_ns ? now_ns - sent_ns : 0);
}

/* Whether all has come, or what has not will not. */
static bool drained(const struct run *run, uint64_t now_ns) {
    bool nothing_due = run->behind <= 0 && run->skipped <= 0;
    uint64_t quiet_ms = nothing_due ? QUIET_MS : run->options.drain_ms;
    return now_ns - run->arrival_ns >= quiet_ms * NS_PER_MS;
}

static void probe(struct run *run, uint64_t now_ns) {
    run->probe_ns = now_ns;
    traffic_probe(run);
}

static void all_welcomed(struct run *run, uint64_t now_ns) {
    if (run->options.connect_only) {
        end_measuring(run, now_ns);
        enter(run, PHASE_REST, now_ns);
    } else {
        enter(run, PHASE_PROBE, now_ns);
        probe(run, now_ns);
    }
}

static void advance(struct run *run, uint64_t now_ns) {
    uint64_t in_phase_ms = (now_ns - run->phase_ns) / NS_PER_MS;
    switch (run->phase) {
        case PHASE_CONNECT:
            traffic_connect(run);
            if (run->welcomed == run->plan.link_count) all_welcomed(run, now_ns);
            else if (in_phase_ms >= run->options.connect_ms)
                fail("only %zu of %zu connections are in their rooms", run->welcomed, run->plan.link_count);
            break;
        case PHASE_PROBE:
            if (run->unheard == 0) begin_warm_up(run, now_ns);
            else if (in_phase_ms >= run->options.connect_ms) fail("not every member hears its room");
            else if (now_ns - run->probe_ns >= PROBE_MS * NS_PER_MS) probe(run, now_ns);
            break;
        case PHASE_WARM_UP:
            if (in_phase_ms >= run->options.warm_up_ms) begin_measuring(run, now_ns);
            break;
        case PHASE_MEASURE:
            if (in_phase_ms < run->options.duration_ms) break;
            /* What was due while this process was held up belongs to the window. */
            while (pace_send(run, now_ns)) continue;
            end_measuring(run, now_ns);
            break;
        case PHASE_DRAIN:
            if (drained(run, now_ns)) enter(run, PHASE_DONE, now_ns);
            break;
        case PHASE_REST:
            if (in_phase_ms >= run->options.duration_ms) enter(run, PHASE_DONE, now_ns);
            break;
        case PHASE_DONE: break;
    }
}

/* Prefix and suffix stay; the text between them is written anew for each message. */
static void prepare_message(struct run *run) {
    const struct options *options = &run->options;
    size_t suffix_at = strlen(options->prefix) + options->message_bytes;
    run->message_bytes = suffix_at + strlen(options->suffix);
    run->message = calloc(1, run->message_bytes + 1);
    if (!run->message) fail("out of memory");
    run->room_at = template_room_at(options->prefix);
    memcpy(run->message, options->prefix, strlen(options->prefix));
    memcpy(run->message + suffix_at, options->suffix, strlen(options->suffix));
}

static void prepare(struct run *run) {
    prepare_message(run);
    run->buffer = malloc(TRAFFIC_BUFFER_BYTES);
    if (!run->buffer) fail("out of memory");
    run->mask = 2463534242u;
    if (run->options.tls) run->tls = tls_prepare();
    pace_prepare(run);
    noise_prepare(run);
    run->origin_ns = run_elapsed_ns(run);
    if (run->options.connect_only) begin_measuring(run, run_elapsed_ns(run));
    enter(run, PHASE_CONNECT, run_elapsed_ns(run));
}

void run_all(struct run *run) {
    struct epoll_event events[MAX_EVENTS];
    prepare(run);
    while (run->phase != PHASE_DONE) {
        uint64_t now_ns = run_elapsed_ns(run);
        advance(run, now_ns);
        pace_send(run, now_ns);
        noise_make(run);
        int count = epoll_wait(run->epoll, events, MAX_EVENTS, IDLE_WAIT_MS);
        for (int i = 0; i < count; i++)
            if (events[i].data.u32 != PACE_TIMER)
                traffic_take(run, &run->plan.links[events[i].data.u32], events[i].events);
    }
    for (size_t i = 0; i < run->plan.link_count; i++) link_close(&run->plan.links[i]);
}

uint64_t run_lost(const struct run *run) {
    uint64_t lost = 0;
    for (size_t i = 0; i < run->plan.link_count; i++) {
        const struct link *link = &run->plan.links[i];
        lost += link->sent_ns.count;
        if (link->role == ROLE_STALL) continue;
        const struct room *room = &run->plan.rooms[link->room];
        const struct publisher *publishers = &run->plan.publishers[room->first_publisher];
        for (uint32_t slot = 0; slot < room->publisher_count; slot++)
            lost += track_lost(&link->tracks[slot], publishers[slot].published);
    }
    return lost;
}
