#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

struct number {
    const char *name;
    uint64_t *value, low, high;
};

struct string {
    const char *name, **value;
};

void fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    printf("{\"event\":\"failed\",\"message\":\"");
    vprintf(format, values);
    printf("\"}\n");
    va_end(values);
    exit(1);
}

static void read_number(const struct number *number, const char *text) {
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || *end || end == text || value < number->low || value > number->high)
        fail("%s must be from %llu to %llu", number->name, (unsigned long long)number->low,
             (unsigned long long)number->high);
    *number->value = value;
}

/* The generator is for servers on this machine; it refuses to load any other. */
static void read_address(struct options *options) {
    options->address.sin_family = AF_INET;
    options->address.sin_port = htons((uint16_t)options->port);
    if (inet_pton(AF_INET, options->host, &options->address.sin_addr) != 1 ||
        ntohl(options->address.sin_addr.s_addr) >> 24 != 127)
        fail("--host must be a loopback address, 127.x.x.x");
}

void options_read(struct options *options, int count, char **arguments) {
    const uint64_t hour_ms = 3600 * 1000;
    struct string strings[] = {
        {"--host", &options->host},
        {"--plan", &options->plan},
        {"--hello", &options->hello},
        {"--welcome", &options->welcome},
        {"--prefix", &options->prefix},
        {"--suffix", &options->suffix},
        {"--ping", &options->ping},
        {"--pong", &options->pong},
        {"--noise", &options->noise},
    };
    struct number numbers[] = {
        {"--port", &options->port, 1, 65535},
        {"--tls", &options->tls, 0, 1},
        {"--message-bytes", &options->message_bytes, TEXT_MIN_BYTES, TEXT_MAX_BYTES},
        {"--in-flight", &options->in_flight, 1, 10000},
        {"--noise-in-flight", &options->noise_in_flight, 0, 10000},
        {"--rate", &options->rate, 0, 10 * 1000 * 1000},
        {"--connect-only", &options->connect_only, 0, 1},
        {"--connecting", &options->connecting, 1, 1000},
        {"--connect-ms", &options->connect_ms, 1, hour_ms},
        {"--warm-up-ms", &options->warm_up_ms, 0, hour_ms},
        {"--duration-ms", &options->duration_ms, 1, hour_ms},
        {"--drain-ms", &options->drain_ms, 1, hour_ms},
    };
    const size_t string_count = sizeof strings / sizeof *strings;
    const size_t number_count = sizeof numbers / sizeof *numbers;
    size_t given = 0;
    for (int i = 1; i + 1 < count; i += 2) {
        size_t before = given;
        for (size_t n = 0; n < string_count; n++)
            if (strcmp(arguments[i], strings[n].name) == 0) *strings[n].value = arguments[i + 1], given++;
        for (size_t n = 0; n < number_count; n++)
            if (strcmp(arguments[i], numbers[n].name) == 0)
                read_number(&numbers[n], arguments[i + 1]), given++;
        if (given == before) fail("an option is unknown");
    }
    if (given != string_count + number_count) fail("every option must be given once");
    read_address(options);
}
