/* The server's side of RFC 6455, for clients that behave: no extensions, no fragments. */
#ifndef BASELINE_WEBSOCKET_H
#define BASELINE_WEBSOCKET_H

#include <stddef.h>

enum { WS_TEXT = 0x1, WS_CLOSE = 0x8, WS_PING = 0x9, WS_PONG = 0xA };
enum { WS_MAX_HEADER_BYTES = 10, WS_MAX_PAYLOAD = 1 << 17 };

struct ws_frame {
    unsigned opcode;
    char *payload;
    size_t payload_bytes;
};

/* Returns the length of the frame at the start of `data`, 0 if more must come, -1 if it is none that such a
   client sends. Its payload is unmasked in place. */
long ws_read_frame(char *data, size_t bytes, struct ws_frame *frame);

/* Writes a frame's head before `payload_bytes` of payload; returns its length. */
size_t ws_write_header(char *at, unsigned opcode, size_t payload_bytes);

/* Writes the answer to an opening handshake, which is all there; returns its length, 0 if it is none. */
size_t ws_write_answer(char *at, size_t capacity, const char *request, size_t request_bytes);

#endif
