#define _GNU_SOURCE
#include "pace.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>

#include "traffic.h"

/* What is read must not wait for too much that is sent. */
enum { SENDS_AT_ONCE = 256 };

static const uint64_t NS_PER_SECOND = 1000000000u;

void pace_prepare(struct run *run) {
    if (run->options.rate == 0) return;
    if (run->plan.paced_count == 0) fail("there is a rate, and nobody to send at it");
    prctl(PR_SET_TIMERSLACK, 1);
    run->pace.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = PACE_TIMER};
    if (run->pace.timer < 0 || epoll_ctl(run->epoll, EPOLL_CTL_ADD, run->pace.timer, &event) != 0)
        fail("no timer");
    run->pace.links = malloc(run->plan.paced_count * sizeof *run->pace.links);
    if (!run->pace.links) fail("out of memory");
    size_t count = 0;
    for (size_t i = 0; i < run->plan.link_count; i++) {
        struct link *link = &run->plan.links[i];
        if (link->role == ROLE_PUBLISH || link->role == ROLE_PING) run->pace.links[count++] = link;
    }
}

void pace_begin(struct run *run, uint64_t now_ns) { run->pace.begin_ns = now_ns; }

static uint64_t due_ns(const struct run *run) {
    uint64_t seconds = run->pace.sent / run->options.rate, rest = run->pace.sent % run->options.rate;
    return run->pace.begin_ns + seconds * NS_PER_SECOND + rest * NS_PER_SECOND / run->options.rate;
}

bool pace_send(struct run *run, uint64_t now_ns) {
    if (run->options.rate == 0 || !run_is_sending(run)) return false;
    for (int i = 0; i < SENDS_AT_ONCE && due_ns(run) <= now_ns; i++) {
        struct link *link = run->pace.links[run->pace.sent % run->plan.paced_count];
        traffic_send(run, link, due_ns(run));
        run->pace.sent++;
    }
    uint64_t at_ns = run->origin_ns + due_ns(run);
    struct itimerspec at = {
        .it_value = {.tv_sec = (time_t)(at_ns / NS_PER_SECOND), .tv_nsec = (long)(at_ns % NS_PER_SECOND)}};
    timerfd_settime(run->pace.timer, TFD_TIMER_ABSTIME, &at, NULL);
    return due_ns(run) <= now_ns;
}
