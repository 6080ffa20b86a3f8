#define _GNU_SOURCE
#include "websocket.h"

#include <stdio.h>
#include <string.h>

/* The key of the RFC's own example (section 1.3), so that its answer is known without SHA-1. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

size_t ws_write_request(char *at, size_t capacity, const char *host, unsigned port, const char *target) {
    int bytes = snprintf(at, capacity,
                         "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n\r\n",
                         target, host, port);
    return bytes > 0 && (size_t)bytes < capacity ? (size_t)bytes : 0;
}

long ws_read_answer(const char *data, size_t bytes) {
    static const char line[] = "HTTP/1.1 101";
    const char *end = memmem(data, bytes, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head_bytes = (size_t)(end - data) + 4;
    if (head_bytes < sizeof line || memcmp(data, line, sizeof line - 1) != 0) return -1;
    return memmem(data, head_bytes, ACCEPT, sizeof ACCEPT - 1) ? (long)head_bytes : -1;
}

size_t ws_write_frame(char *at, unsigned opcode, const char *payload, size_t payload_bytes, uint32_t mask) {
    unsigned char *out = (unsigned char *)at;
    size_t length_bytes = payload_bytes < 126 ? 0 : payload_bytes < 65536 ? 2 : 8;
    *out++ = (unsigned char)(0x80 | opcode);
    *out++ = (unsigned char)(0x80 | (length_bytes == 0 ? payload_bytes : length_bytes == 2 ? 126 : 127));
    for (size_t i = length_bytes; i-- > 0;) *out++ = (unsigned char)(payload_bytes >> (8 * i));
    unsigned char key[4];
    memcpy(key, &mask, 4);
    memcpy(out, key, 4);
    out += 4;
    for (size_t i = 0; i < payload_bytes; i++) out[i] = (unsigned char)payload[i] ^ key[i & 3];
    return (size_t)(out - (unsigned char *)at) + payload_bytes;
}

long ws_read_frame(const char *data, size_t bytes, struct ws_frame *frame) {
    const unsigned char *in = (const unsigned char *)data;
    if (bytes < 2) return 0;
    /* FIN and no reserved bit in the first byte, no mask in the second. */
    if ((in[0] & 0xF0) != 0x80 || (in[1] & 0x80)) return -1;
    size_t length_bytes = in[1] == 126 ? 2 : in[1] == 127 ? 8 : 0;
    uint64_t payload_bytes = length_bytes ? 0 : in[1];
    if (bytes < 2 + length_bytes) return 0;
    for (size_t i = 0; i < length_bytes; i++) payload_bytes = payload_bytes << 8 | in[2 + i];
    size_t header_bytes = 2 + length_bytes;
    if (payload_bytes > bytes - header_bytes) return 0;
    frame->opcode = in[0] & 0x0F;
    frame->payload = data + header_bytes;
    frame->payload_bytes = (size_t)payload_bytes;
    return (long)(header_bytes + payload_bytes);
}
