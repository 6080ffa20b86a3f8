/* What the generator is told on its command line, as `--name value` pairs. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <netinet/in.h>
#include <stdint.h>

struct options {
    const char *host; /* a loopback address */
    uint64_t port;
    uint64_t tls; /* 1: the connections are under TLS */
    const char *plan;    /* file: a line `room role target` for each connection */
    const char *hello;   /* what each connection says first, see template.h; "" is nothing */
    const char *welcome; /* what stands in the message that tells a connection it is in its room */
    const char *prefix;  /* what stands around the text in a published message; may name its room, see template.h */
    const char *suffix;
    const char *ping;          /* a message, and what stands in its answer */
    const char *pong;
    const char *noise; /* file: the frames of one message of those who make noise; "" is none */
    uint64_t message_bytes;    /* of the text alone */
    uint64_t in_flight;        /* messages each publisher and pinger has outstanding, when no rate is given */
    uint64_t noise_in_flight;  /* noise each one has unanswered; 0 is whatever the connection takes */
    uint64_t rate;             /* messages a second of all publishers and pingers together; 0 is no rate */
    uint64_t connecting;       /* handshakes under way at once */
    uint64_t connect_only;     /* 1: joining is what is measured, and the duration is how long it then rests */
    uint64_t connect_ms, warm_up_ms, duration_ms, drain_ms;
    struct sockaddr_in address;
};

/* Ends the program with a message when an option is unknown, missing or out of bounds. */
void options_read(struct options *options, int count, char **arguments);

/* Prints {"event":"failed","message":...} and ends the program. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
