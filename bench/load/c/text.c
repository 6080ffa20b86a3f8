#define _GNU_SOURCE
#include "text.h"

#include <stdbool.h>
#include <string.h>

static const char MARK[] = "gr-bench:";

enum {
    MARK_BYTES = sizeof MARK - 1,
    PUBLISHER_DIGITS = 6,
    SEQUENCE_DIGITS = 10,
    NANOSECOND_DIGITS = 15,
    PUBLISHER_AT = MARK_BYTES,
    SEQUENCE_AT = PUBLISHER_AT + PUBLISHER_DIGITS + 1,
    NANOSECONDS_AT = SEQUENCE_AT + SEQUENCE_DIGITS + 1,
    PADDING_AT = NANOSECONDS_AT + NANOSECOND_DIGITS + 1,
};
_Static_assert((int)PADDING_AT == (int)TEXT_MIN_BYTES, "the header must speak of the same layout");

/* Writes `value` and the colon that ends every number. */
static void write_number(char *at, int digits, uint64_t value) {
    for (int i = digits - 1; i >= 0; i--, value /= 10) at[i] = (char)('0' + value % 10);
    at[digits] = ':';
}

static bool read_number(const char *at, int digits, uint64_t *value) {
    uint64_t sum = 0;
    unsigned wrong = 0;
    for (int i = 0; i < digits; i++) {
        unsigned digit = (unsigned char)at[i] - (unsigned)'0';
        wrong |= digit > 9;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return !wrong && at[digits] == ':';
}

static bool is_padding(const char *at, size_t bytes) {
    return bytes == 0 || (at[0] == 'x' && memcmp(at, at + 1, bytes - 1) == 0);
}

void text_write(char *at, size_t bytes, const struct text *text) {
    memcpy(at, MARK, MARK_BYTES);
    write_number(at + PUBLISHER_AT, PUBLISHER_DIGITS, text->publisher);
    write_number(at + SEQUENCE_AT, SEQUENCE_DIGITS, text->sequence);
    write_number(at + NANOSECONDS_AT, NANOSECOND_DIGITS, text->sent_ns);
    memset(at + PADDING_AT, 'x', bytes - PADDING_AT);
}

enum text_found text_find(const char *payload, size_t payload_bytes, size_t bytes, size_t *hint,
                          struct text *text) {
    size_t at = *hint;
    if (at + MARK_BYTES > payload_bytes || memcmp(payload + at, MARK, MARK_BYTES) != 0) {
        const char *found = memmem(payload, payload_bytes, MARK, MARK_BYTES);
        if (!found) return TEXT_NONE;
        at = *hint = (size_t)(found - payload);
    }
    if (at + bytes > payload_bytes) return TEXT_MALFORMED;
    const char *start = payload + at;
    bool whole = read_number(start + PUBLISHER_AT, PUBLISHER_DIGITS, &text->publisher) &&
                 read_number(start + SEQUENCE_AT, SEQUENCE_DIGITS, &text->sequence) &&
                 read_number(start + NANOSECONDS_AT, NANOSECOND_DIGITS, &text->sent_ns) &&
                 is_padding(start + PADDING_AT, bytes - PADDING_AT);
    return whole ? TEXT_READ : TEXT_MALFORMED;
}
