/* The client's side of RFC 6455, as far as a benchmark on loopback needs it: no extensions, no fragments. */
#ifndef BENCH_WEBSOCKET_H
#define BENCH_WEBSOCKET_H

#include <stddef.h>
#include <stdint.h>

enum { WS_TEXT = 0x1, WS_BINARY = 0x2, WS_CLOSE = 0x8, WS_PING = 0x9, WS_PONG = 0xA };
enum { WS_MAX_HEADER_BYTES = 14, WS_MAX_CONTROL_BYTES = 125 };

struct ws_frame {
    unsigned opcode;
    const char *payload;
    size_t payload_bytes;
};

/* Writes the opening handshake (section 4.1); returns its length, or 0 if it does not fit `capacity`. */
size_t ws_write_request(char *at, size_t capacity, const char *host, unsigned port, const char *target);

/* Returns the length of the server's answer, 0 if more of it must come, -1 if it is no acceptance. */
long ws_read_answer(const char *data, size_t bytes);

/* Writes a whole masked frame (section 5.3) of `payload_bytes`; returns its length. */
size_t ws_write_frame(char *at, unsigned opcode, const char *payload, size_t payload_bytes, uint32_t mask);

/* Returns the length of the frame at the start of `data`, 0 if more of it must come, -1 if a server must
   not send it or it is a fragment. */
long ws_read_frame(const char *data, size_t bytes, struct ws_frame *frame);

#endif
