/* What goes over the connections: handshakes, published messages, and what comes back. */
#ifndef BENCH_TRAFFIC_H
#define BENCH_TRAFFIC_H

#include "run.h"

enum { TRAFFIC_BUFFER_BYTES = 1 << 20 };

/* Begins connections until `connecting` of them are under way. */
void traffic_connect(struct run *run);

/* Every publisher sends one message. */
void traffic_probe(struct run *run);

/* Every publisher and pinger sends until `in_flight` of its messages are outstanding. */
void traffic_fill(struct run *run);

/* A publisher or pinger sends one message, which counts as sent at `sent_ns`. */
void traffic_send(struct run *run, struct link *link, uint64_t sent_ns);

/* Those that are to stall read nothing any more. */
void traffic_stall(struct run *run);

/* Takes what epoll says of one connection. */
void traffic_take(struct run *run, struct link *link, uint32_t events);

/* Lets go of a connection that the server has ended. */
void traffic_drop(struct run *run, struct link *link, unsigned close_code);

#endif
