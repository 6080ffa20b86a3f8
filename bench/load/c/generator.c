/* Loads a room server over WebSocket and counts exactly what every member received.

   One process, one thread, one epoll. Prints one JSON object a line: `joined`, `measuring`, `measured`,
   then `result`; or `failed`. Never runs longer than its phases may take together. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "run.h"

enum { SLACK_SECONDS = 10 };

/* The hard limit is what the system grants; the soft one is often 1024. */
static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* The runner may be killed, and the server may never go quiet: this process must end all the same. */
static void bound_life(const struct options *options) {
    uint64_t ms = 2 * options->connect_ms + options->warm_up_ms + options->duration_ms + options->drain_ms;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm((unsigned)(ms / 1000) + SLACK_SECONDS);
}

static void print_result(const struct run *run) {
    const struct window *window = &run->window;
    const struct tally *tally = &run->tally;
    printf("{\"event\":\"result\",\"seconds\":%.6f,\"cpu_seconds\":%.6f",
           (double)(window->end_ns - window->start_ns) / 1e9,
           (double)(window->cpu_end_ns - window->cpu_start_ns) / 1e9);
    printf(",\"published\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"received_bytes\":%" PRIu64,
           window->published, window->delivered, window->received_bytes);
    printf(",\"crowd_delivered\":%" PRIu64 ",\"noise_answered\":%" PRIu64, window->crowd_delivered,
           window->noise_answered);
    printf(",\"lost\":%" PRIu64 ",\"duplicated\":%" PRIu64 ",\"out_of_order\":%" PRIu64, run_lost(run),
           tally->duplicated, tally->out_of_order);
    printf(",\"malformed\":%" PRIu64 ",\"strayed\":%" PRIu64 ",\"other_frames\":%" PRIu64, tally->malformed,
           tally->strayed, tally->other_frames);
    printf(",\"disconnected\":%" PRIu64 ",\"close_code\":%u", tally->disconnected, tally->close_code);
    printf(",\"latency_max_ns\":%" PRIu64 ",\"latency_ns\":", window->latency.max_ns);
    histogram_print(&window->latency, stdout);
    printf("}\n");
}

int main(int count, char **arguments) {
    static struct run run;
    options_read(&run.options, count, arguments);
    bound_life(&run.options);
    raise_file_limit();
    /* OpenSSL writes without MSG_NOSIGNAL. */
    signal(SIGPIPE, SIG_IGN);
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (run.epoll < 0) fail("no epoll");
    plan_read(&run.plan, run.options.plan, run.epoll);
    run_all(&run);
    print_result(&run);
    return 0;
}
