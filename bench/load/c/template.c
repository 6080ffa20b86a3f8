#define _GNU_SOURCE
#include "template.h"

#include <stdbool.h>
#include <string.h>

static const char ROOM[] = "{room}", TOKEN[] = "{token}";

enum { ROOM_BYTES = sizeof ROOM - 1, TOKEN_BYTES = sizeof TOKEN - 1 };

long template_room_at(const char *text) {
    const char *found = strstr(text, ROOM);
    return found ? found - text : -1;
}

void template_write_room(char *at, uint32_t room) {
    for (int i = ROOM_BYTES - 1; i >= 0; i--, room /= 10) at[i] = (char)('0' + room % 10);
}

static const char *token_in(const char *target) {
    const char *found = strstr(target, "token=");
    return found ? found + strlen("token=") : "";
}

size_t template_write(char *at, size_t capacity, const char *text, uint32_t room, const char *target) {
    const char *token = token_in(target);
    size_t used = 0, token_bytes = strcspn(token, "&");
    while (*text) {
        bool is_room = strncmp(text, ROOM, ROOM_BYTES) == 0;
        bool is_token = strncmp(text, TOKEN, TOKEN_BYTES) == 0;
        size_t bytes = is_room ? ROOM_BYTES : is_token ? token_bytes : 1;
        if (used + bytes > capacity) return 0;
        if (is_room) template_write_room(at + used, room);
        else memcpy(at + used, is_token ? token : text, bytes);
        used += bytes;
        text += is_room ? ROOM_BYTES : is_token ? TOKEN_BYTES : 1;
    }
    return used;
}
