/* One client connection: a non-blocking socket and what is left over on either side of it. */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger.h"
#include "queue.h"
#include "tls.h"

/* Open means welcomed: the server has said that it is in its room. A stalled one is open and no longer read. */
enum link_state {
    LINK_IDLE,
    LINK_CONNECTING,
    LINK_SECURING, /* TLS shakes hands */
    LINK_SHAKING,  /* WebSocket does */
    LINK_GREETED,
    LINK_OPEN,
    LINK_STALLED,
    LINK_CLOSED,
};

/* What a connection is there for. */
enum role {
    ROLE_LISTEN,
    ROLE_PUBLISH, /* speaks in its room; what that room hears is measured */
    ROLE_CROWD,   /* as one that publishes, but counts for nothing in the measured window */
    ROLE_PING,    /* sends pings; the answers are measured */
    ROLE_NOISE,   /* sends the same message again and again, counted as noise */
    ROLE_STALL,   /* listens until the warm-up, then reads nothing any more */
};

struct bytes {
    char *data;
    size_t count, capacity;
};

struct link {
    int fd, epoll;
    uint32_t index; /* names this connection in epoll events */
    enum link_state state;
    struct ssl_st *tls; /* NULL: clear text */
    enum role role;
    uint32_t room;
    int64_t publisher;    /* its number, or -1 for a member that does not publish */
    char *target;         /* the request target of its handshake */
    uint64_t begun_ns;    /* when it began to connect */
    size_t hint;          /* where the text stood in the last frame */
    struct track *tracks; /* one for each publisher of its room */
    struct queue sent_ns; /* of pings whose answers have not come */
    uint64_t outstanding; /* noise that has not been answered */
    struct bytes carry;   /* the head of a frame whose rest has not come */
    struct bytes unsent;  /* what the kernel has not taken */
};

/* Starts to connect. Returns 0, or the errno that prevented it. */
int link_connect(struct link *link, const struct sockaddr_in *address);

/* Returns 0 once the connection stands, or the errno that ended the attempt. */
int link_connected(const struct link *link);

/* Begins TLS on a connection that stands. */
void link_secure(struct link *link, struct ssl_ctx_st *context);

/* From now on only what comes is waited for. */
void link_listen(const struct link *link);

/* From now on nothing is waited for: what comes stays in the kernel. */
void link_stall(struct link *link);

/* Sends, or keeps what the kernel does not take. False: the connection is gone. */
bool link_send(struct link *link, const char *data, size_t bytes);

/* Sends on what was kept. False: the connection is gone. */
bool link_flush(struct link *link);

/* Fills `buffer` with what was carried over and what has come since. Returns its length, 0 if nothing new
   came, -1 if the connection is gone. Under TLS it must be called again while link_holds_more. */
long link_receive(struct link *link, char *buffer, size_t capacity);

/* Whether something has come that epoll does not tell of. */
bool link_holds_more(const struct link *link);

/* Carries `data` over to the next link_receive. */
void link_carry(struct link *link, const char *data, size_t bytes);

void link_close(struct link *link);

#endif
