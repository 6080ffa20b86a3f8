/* What is different for each connection in a hello or a message: `{room}` and `{token}`. */
#ifndef BENCH_TEMPLATE_H
#define BENCH_TEMPLATE_H

#include <stddef.h>
#include <stdint.h>

/* Returns where `{room}` stands in `text`, -1 if it does not. */
long template_room_at(const char *text);

/* Writes a room's number over `{room}`, which has as many characters: six digits. */
void template_write_room(char *at, uint32_t room);

/* Writes `text` with the room's number for `{room}`, and for `{token}` what follows `token=` in `target`.
   Returns its length, or 0 if it does not fit `capacity`. */
size_t template_write(char *at, size_t capacity, const char *text, uint32_t room, const char *target);

#endif
