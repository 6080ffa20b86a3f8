/* One connection of the server, and the room it is in. */
#ifndef BASELINE_CLIENT_H
#define BASELINE_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NAME_BYTES = 129 };

struct client;

struct room {
    char name[NAME_BYTES];
    struct client **members;
    size_t count, capacity;
    struct room *next; /* in its bucket */
};

/* Bytes that wait: the rest of a frame to come, or what the kernel has not taken. */
struct held {
    char *data;
    size_t count;
};

struct client {
    int fd;
    unsigned number; /* its user is u and this */
    bool is_gone;
    struct room *room; /* none before the handshake */
    size_t place;      /* among the members of the room */
    struct held coming, going;
};

/* Sends a text frame: one call of the kernel. What it does not take waits, up to a limit; past it, or when the
   connection has failed, the client is gone. */
void client_send(struct client *client, int epoll, const char *frame, size_t bytes);

/* Sends on what has waited. */
void client_flush(struct client *client, int epoll);

/* Keeps bytes for when more has come. */
void held_set(struct held *held, const char *data, size_t bytes);

/* Returns the room of that name, a new one if there is none yet. */
struct room *room_find(const char *name, size_t bytes);

void room_add(struct room *room, struct client *client);

void room_remove(struct client *client);

#endif
