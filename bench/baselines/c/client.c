#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { MAX_GOING_BYTES = 1 << 20, BUCKETS = 1 << 14 };

static void *checked(void *memory) {
    if (!memory) abort();
    return memory;
}

void held_set(struct held *held, const char *data, size_t bytes) {
    char *copy = NULL;
    if (bytes) copy = memcpy(checked(malloc(bytes)), data, bytes);
    free(held->data);
    *held = (struct held){.data = copy, .count = bytes};
}

static void watch(const struct client *client, int epoll, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = (void *)client};
    epoll_ctl(epoll, EPOLL_CTL_MOD, client->fd, &event);
}

/* Returns how much the kernel took; the client is gone if it cannot. */
static size_t send_some(struct client *client, const char *data, size_t bytes) {
    ssize_t sent = send(client->fd, data, bytes, MSG_NOSIGNAL);
    if (sent >= 0) return (size_t)sent;
    if (errno != EAGAIN && errno != EINTR) client->is_gone = true;
    return 0;
}

void client_send(struct client *client, int epoll, const char *frame, size_t bytes) {
    if (client->is_gone) return;
    struct held *going = &client->going;
    size_t sent = going->count ? 0 : send_some(client, frame, bytes);
    if (sent == bytes || client->is_gone) return;
    if (going->count + bytes > MAX_GOING_BYTES) {
        client->is_gone = true;
        shutdown(client->fd, SHUT_RDWR);
        return;
    }
    if (going->count == 0) watch(client, epoll, EPOLLIN | EPOLLOUT);
    going->data = checked(realloc(going->data, going->count + bytes - sent));
    memcpy(going->data + going->count, frame + sent, bytes - sent);
    going->count += bytes - sent;
}

void client_flush(struct client *client, int epoll) {
    struct held *going = &client->going;
    size_t sent = send_some(client, going->data, going->count);
    memmove(going->data, going->data + sent, going->count - sent);
    going->count -= sent;
    if (going->count) return;
    held_set(going, NULL, 0);
    if (!client->is_gone) watch(client, epoll, EPOLLIN);
}

struct room *room_find(const char *name, size_t bytes) {
    static struct room *buckets[BUCKETS];
    uint32_t hash = 2166136261u;
    if (bytes >= NAME_BYTES) bytes = NAME_BYTES - 1;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    struct room **bucket = &buckets[hash % BUCKETS];
    for (struct room *room = *bucket; room; room = room->next)
        if (strlen(room->name) == bytes && memcmp(room->name, name, bytes) == 0) return room;
    struct room *room = checked(calloc(1, sizeof *room));
    memcpy(room->name, name, bytes);
    room->next = *bucket;
    return *bucket = room;
}

void room_add(struct room *room, struct client *client) {
    if (room->count == room->capacity) {
        room->capacity = room->capacity ? room->capacity * 2 : 2;
        room->members = checked(realloc(room->members, room->capacity * sizeof(struct client *)));
    }
    client->room = room;
    client->place = room->count;
    room->members[room->count++] = client;
}

void room_remove(struct client *client) {
    struct room *room = client->room;
    struct client *last = room->members[--room->count];
    room->members[client->place] = last;
    last->place = client->place;
    client->room = NULL;
}
