/* The text that is published: who sent it, which one it is, and when.

   "gr-bench:PPPPPP:SSSSSSSSSS:NNNNNNNNNNNNNNN:xxxx": publisher, sequence and nanoseconds in decimal at
   fixed places, then padding. Only letters, digits, '-' and ':' occur, which no JSON encoder escapes, so
   the text is found in a server's frame whatever fields surround it. */
#ifndef BENCH_TEXT_H
#define BENCH_TEXT_H

#include <stddef.h>
#include <stdint.h>

enum { TEXT_MIN_BYTES = 43, TEXT_MAX_BYTES = 65536 };
enum { TEXT_MAX_PUBLISHERS = 1000000 };

struct text {
    uint64_t publisher;
    uint64_t sequence; /* from 1, without gaps */
    uint64_t sent_ns;  /* since the generator started */
};

enum text_found { TEXT_NONE, TEXT_READ, TEXT_MALFORMED };

/* Writes exactly `bytes` bytes, at least TEXT_MIN_BYTES. */
void text_write(char *at, size_t bytes, const struct text *text);

/* Looks for a text of `bytes` bytes in `payload`, first at `*hint`, which is left where it was found. */
enum text_found text_find(const char *payload, size_t payload_bytes, size_t bytes, size_t *hint,
                          struct text *text);

#endif
