/* A room server as plain as C allows: one epoll, one send for each delivery.

   Usage: server PORT. It speaks the article's protocol: /ws/{room}, `user_joined`, `user_left`, `chat`, `ping`.
   It does not look at tokens and takes the text out of the JSON by its quotes: it is the measure of what the
   kernel costs, not a server to use. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"
#include "websocket.h"

/* In bigger rooms only the newcomer is told that it came: see TELL_ALL in ../rooms.py. */
enum { TELL_ALL = 100 };

enum { MAX_EVENTS = 1024, BUFFER_BYTES = 1 << 20, MAX_TEXT = 1 << 17, BACKLOG = 4096 };

struct server {
    int epoll, listener;
    unsigned accepted;
    char *buffer;
    struct client *gone[MAX_EVENTS];
    size_t gone_count;
};

static void send_text(const struct server *server, struct client *client, const char *text, size_t bytes) {
    static char frame[WS_MAX_HEADER_BYTES + MAX_TEXT];
    size_t header = ws_write_header(frame, WS_TEXT, bytes);
    memcpy(frame + header, text, bytes);
    client_send(client, server->epoll, frame, header + bytes);
}

/* One frame for all, one send for each. */
static void tell_room(const struct server *server, const struct room *room, const char *text, size_t bytes) {
    static char frame[WS_MAX_HEADER_BYTES + MAX_TEXT];
    size_t header = ws_write_header(frame, WS_TEXT, bytes);
    memcpy(frame + header, text, bytes);
    for (size_t i = 0; i < room->count; i++)
        client_send(room->members[i], server->epoll, frame, header + bytes);
}

static void tell_joined(const struct server *server, const struct room *room, struct client *client) {
    char text[128];
    int bytes = snprintf(text, sizeof text, "{\"type\":\"user_joined\",\"user_id\":\"u%u\",\"room_size\":%zu}",
                         client->number, room->count);
    if (room->count <= TELL_ALL) tell_room(server, room, text, (size_t)bytes);
    else send_text(server, client, text, (size_t)bytes);
}

static void tell_left(const struct server *server, const struct room *room, unsigned user) {
    char text[128];
    int bytes = snprintf(text, sizeof text, "{\"type\":\"user_left\",\"user_id\":\"u%u\"}", user);
    tell_room(server, room, text, (size_t)bytes);
}

static void take_chat(const struct server *server, const struct client *client, const char *payload, size_t bytes) {
    static char text[MAX_TEXT];
    static const char field[] = "\"text\":\"";
    const char *from = memmem(payload, bytes, field, sizeof field - 1);
    if (!from) return;
    from += sizeof field - 1;
    const char *to = memrchr(from, '"', (size_t)(payload + bytes - from));
    if (!to || to - from > MAX_TEXT - 128) return;
    int head = snprintf(text, 128, "{\"type\":\"chat\",\"user_id\":\"u%u\",\"text\":\"", client->number);
    memcpy(text + head, from, (size_t)(to - from));
    memcpy(text + head + (to - from), "\"}", 2);
    tell_room(server, client->room, text, (size_t)head + (size_t)(to - from) + 2);
}

static void take_frame(const struct server *server, struct client *client, const struct ws_frame *frame) {
    static const char chat[] = "{\"type\":\"chat\"", ping[] = "{\"type\":\"ping\"", pong[] = "{\"type\":\"pong\"}";
    if (frame->opcode == WS_CLOSE) client->is_gone = true;
    if (frame->opcode != WS_TEXT) return;
    if (frame->payload_bytes >= sizeof chat - 1 && memcmp(frame->payload, chat, sizeof chat - 1) == 0)
        take_chat(server, client, frame->payload, frame->payload_bytes);
    else if (frame->payload_bytes >= sizeof ping - 1 && memcmp(frame->payload, ping, sizeof ping - 1) == 0)
        send_text(server, client, pong, sizeof pong - 1);
}

/* Returns how much of `data` the handshake was, 0 if it is not all there. */
static size_t take_handshake(const struct server *server, struct client *client, const char *data, size_t bytes) {
    static const char path[] = "GET /ws/";
    char answer[512];
    const char *end = memmem(data, bytes, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head_bytes = (size_t)(end - data) + 4;
    size_t answer_bytes = ws_write_answer(answer, sizeof answer, data, head_bytes);
    if (answer_bytes == 0 || memcmp(data, path, sizeof path - 1) != 0) {
        client->is_gone = true;
        return head_bytes;
    }
    const char *name = data + sizeof path - 1;
    client_send(client, server->epoll, answer, answer_bytes);
    struct room *room = room_find(name, strcspn(name, "? "));
    room_add(room, client);
    tell_joined(server, room, client);
    return head_bytes;
}

static void read_client(const struct server *server, struct client *client) {
    size_t held = client->coming.count, at = 0;
    memcpy(server->buffer, held ? client->coming.data : "", held);
    ssize_t got = recv(client->fd, server->buffer + held, BUFFER_BYTES - held, 0);
    if (got <= 0) {
        client->is_gone = true;
        return;
    }
    size_t total = held + (size_t)got;
    if (!client->room) at = take_handshake(server, client, server->buffer, total);
    while (client->room && !client->is_gone) {
        struct ws_frame frame;
        long used = ws_read_frame(server->buffer + at, total - at, &frame);
        if (used < 0) client->is_gone = true;
        if (used <= 0) break;
        at += (size_t)used;
        take_frame(server, client, &frame);
    }
    if (held || at < total) held_set(&client->coming, server->buffer + at, total - at);
}

static void let_go(const struct server *server, struct client *client) {
    struct room *room = client->room;
    if (room) {
        room_remove(client);
        tell_left(server, room, client->number);
    }
    close(client->fd);
    held_set(&client->coming, NULL, 0);
    held_set(&client->going, NULL, 0);
    free(client);
}

static void accept_all(struct server *server) {
    int fd, on = 1;
    while ((fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *client = calloc(1, sizeof *client);
        if (!client) abort();
        *client = (struct client){.fd = fd, .number = server->accepted++};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) != 0) abort();
    }
}

static void serve(struct server *server) {
    struct epoll_event events[MAX_EVENTS];
    for (;;) {
        int count = epoll_wait(server->epoll, events, MAX_EVENTS, -1);
        server->gone_count = 0;
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) {
                accept_all(server);
                continue;
            }
            if ((events[i].events & EPOLLOUT) && !client->is_gone) client_flush(client, server->epoll);
            if ((events[i].events & ~(uint32_t)EPOLLOUT) && !client->is_gone) read_client(server, client);
            if (client->is_gone) server->gone[server->gone_count++] = client;
        }
        /* Not before: another event of this turn may have been theirs to hear of. */
        for (size_t i = 0; i < server->gone_count; i++) let_go(server, server->gone[i]);
    }
}

int main(int count, char **arguments) {
    static struct server server;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    if (count != 2) return 2;
    address.sin_port = htons((uint16_t)atoi(arguments[1]));
    server.buffer = malloc(BUFFER_BYTES);
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(server.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (!server.buffer || server.epoll < 0 ||
        bind(server.listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(server.listener, BACKLOG) != 0 ||
        epoll_ctl(server.epoll, EPOLL_CTL_ADD, server.listener, &event) != 0) {
        perror("server");
        return 1;
    }
    serve(&server);
}
