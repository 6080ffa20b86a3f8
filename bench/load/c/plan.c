#define _GNU_SOURCE
#include "plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "text.h"

static void *checked(void *memory) {
    if (!memory) fail("out of memory");
    return memory;
}

static const char *const ROLES[] = {
    [ROLE_LISTEN] = "listen", [ROLE_PUBLISH] = "publish", [ROLE_CROWD] = "crowd",
    [ROLE_PING] = "ping",     [ROLE_NOISE] = "noise",     [ROLE_STALL] = "stall",
};

/* Returns the role of that name, -1 if there is none. */
static int role_of(const char *name) {
    for (size_t i = 0; i < sizeof ROLES / sizeof *ROLES; i++)
        if (strcmp(name, ROLES[i]) == 0) return (int)i;
    return -1;
}

static void add_link(struct plan *plan, uint32_t room, enum role role, const char *target, int epoll) {
    bool publishes = role == ROLE_PUBLISH || role == ROLE_CROWD;
    if ((plan->link_count & (plan->link_count - 1)) == 0) {
        size_t capacity = plan->link_count ? plan->link_count * 2 : 1;
        plan->links = checked(realloc(plan->links, capacity * sizeof *plan->links));
    }
    plan->links[plan->link_count] = (struct link){
        .fd = -1,
        .epoll = epoll,
        .index = (uint32_t)plan->link_count,
        .role = role,
        .room = room,
        .publisher = publishes ? 0 : -1,
        .target = checked(strdup(target)),
    };
    plan->link_count++;
    plan->publisher_count += publishes;
    plan->paced_count += role == ROLE_PUBLISH || role == ROLE_PING;
    if (room >= plan->room_count) plan->room_count = room + 1;
}

/* Gives each publisher its number: those of a room stand side by side, so a room needs only the first. */
static void number_publishers(struct plan *plan) {
    for (size_t i = 0; i < plan->link_count; i++)
        if (plan->links[i].publisher >= 0) plan->rooms[plan->links[i].room].publisher_count++;
    uint32_t next = 0;
    for (size_t i = 0; i < plan->room_count; i++) {
        plan->rooms[i].first_publisher = next;
        next += plan->rooms[i].publisher_count;
        plan->rooms[i].publisher_count = 0;
    }
    for (size_t i = 0; i < plan->link_count; i++) {
        struct link *link = &plan->links[i];
        if (link->publisher < 0) continue;
        struct room *room = &plan->rooms[link->room];
        link->publisher = room->first_publisher + room->publisher_count++;
        plan->publishers[link->publisher] = (struct publisher){
            .link = link, .room = link->room, .observed = link->role == ROLE_PUBLISH};
    }
}

void plan_read(struct plan *plan, const char *path, int epoll) {
    FILE *file = fopen(path, "r");
    if (!file) fail("the plan cannot be read: %s", strerror(errno));
    unsigned room;
    char role[16];
    static char target[4096];
    int fields;
    while ((fields = fscanf(file, "%u %15s %4095s", &room, role, target)) == 3 && role_of(role) >= 0) {
        if (room >= TEXT_MAX_PUBLISHERS || plan->link_count >= TEXT_MAX_PUBLISHERS)
            fail("the plan is too big");
        add_link(plan, room, (enum role)role_of(role), target, epoll);
    }
    if (fields != EOF) fail("line %zu of the plan is not `room role target`", plan->link_count + 1);
    fclose(file);
    if (plan->link_count == 0) fail("the plan is empty");
    plan->rooms = checked(calloc(plan->room_count, sizeof *plan->rooms));
    plan->publishers = checked(calloc(plan->publisher_count + 1, sizeof *plan->publishers));
    number_publishers(plan);
    for (size_t i = 0; i < plan->link_count; i++) {
        size_t count = plan->rooms[plan->links[i].room].publisher_count;
        plan->links[i].tracks = checked(calloc(count ? count : 1, sizeof(struct track)));
    }
}
