#define _GNU_SOURCE
#include "link.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void append(struct bytes *bytes, const char *data, size_t count) {
    if (bytes->count + count > bytes->capacity) {
        bytes->capacity = bytes->count + count + bytes->capacity;
        bytes->data = realloc(bytes->data, bytes->capacity);
        if (!bytes->data) abort();
    }
    memcpy(bytes->data + bytes->count, data, count);
    bytes->count += count;
}

static void watch(const struct link *link, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u32 = link->index};
    if (epoll_ctl(link->epoll, operation, link->fd, &event) != 0) abort();
}

int link_connect(struct link *link, const struct sockaddr_in *address) {
    int on = 1;
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->fd < 0) return errno;
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(link->fd, (const struct sockaddr *)address, sizeof *address) != 0 && errno != EINPROGRESS)
        return errno;
    link->state = LINK_CONNECTING;
    watch(link, EPOLL_CTL_ADD, EPOLLOUT);
    return 0;
}

int link_connected(const struct link *link) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
}

void link_secure(struct link *link, struct ssl_ctx_st *context) {
    link->tls = tls_begin(context, link->fd);
    link->state = LINK_SECURING;
}

void link_listen(const struct link *link) { watch(link, EPOLL_CTL_MOD, EPOLLIN); }

void link_stall(struct link *link) {
    watch(link, EPOLL_CTL_DEL, 0);
    link->state = LINK_STALLED;
}

/* Returns how much the kernel took, -1 if the connection is gone. */
static long send_some(const struct link *link, const char *data, size_t bytes) {
    if (link->tls) return tls_send(link->tls, data, bytes);
    ssize_t sent = send(link->fd, data, bytes, MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

bool link_send(struct link *link, const char *data, size_t bytes) {
    long sent = link->unsent.count ? 0 : send_some(link, data, bytes);
    if (sent < 0) return false;
    if ((size_t)sent == bytes) return true;
    if (link->unsent.count == 0) watch(link, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    append(&link->unsent, data + sent, bytes - (size_t)sent);
    return true;
}

bool link_flush(struct link *link) {
    long sent = send_some(link, link->unsent.data, link->unsent.count);
    if (sent < 0) return false;
    link->unsent.count -= (size_t)sent;
    memmove(link->unsent.data, link->unsent.data + sent, link->unsent.count);
    if (link->unsent.count == 0) watch(link, EPOLL_CTL_MOD, EPOLLIN);
    return true;
}

/* Returns how much came, 0 if nothing did, -1 if the connection is gone. */
static long receive_some(const struct link *link, char *buffer, size_t capacity) {
    if (link->tls) return tls_receive(link->tls, buffer, capacity);
    ssize_t got = recv(link->fd, buffer, capacity, 0);
    if (got == 0) return -1;
    if (got < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    return got;
}

long link_receive(struct link *link, char *buffer, size_t capacity) {
    size_t carried = link->carry.count;
    memcpy(buffer, link->carry.data ? link->carry.data : "", carried);
    long got = receive_some(link, buffer + carried, capacity - carried);
    if (got <= 0) return got;
    link->carry.count = 0;
    return (long)carried + got;
}

bool link_holds_more(const struct link *link) { return link->tls && tls_holds_more(link->tls); }

void link_carry(struct link *link, const char *data, size_t bytes) {
    if (bytes) append(&link->carry, data, bytes);
}

void link_close(struct link *link) {
    if (link->state == LINK_IDLE || link->state == LINK_CLOSED) return;
    if (link->tls) tls_free(link->tls);
    link->tls = NULL;
    close(link->fd);
    link->state = LINK_CLOSED;
}
