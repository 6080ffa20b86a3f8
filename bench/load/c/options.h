/* What the generator is told on its command line, as `--name value` pairs. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <netinet/in.h>
#include <stdint.h>

struct options {
    const char *host;   /* a loopback address */
    uint64_t port;
    const char *plan;   /* file: a line `room publishes target` for each connection */
    const char *prefix; /* what stands around the text in a published message */
    const char *suffix;
    uint64_t message_bytes; /* of the text alone */
    uint64_t in_flight;     /* messages each publisher has outstanding */
    uint64_t connecting;    /* handshakes under way at once */
    uint64_t connect_ms, warm_up_ms, duration_ms, drain_ms;
    struct sockaddr_in address;
};

/* Ends the program with a message when an option is unknown, missing or out of bounds. */
void options_read(struct options *options, int count, char **arguments);

/* Prints {"event":"failed","message":...} and ends the program. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
