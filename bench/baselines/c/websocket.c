#define _GNU_SOURCE
#include "websocket.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "sha1.h"

static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
static const char KEY_FIELD[] = "\r\nSec-WebSocket-Key: ";

enum { KEY_BYTES = 24 };

long ws_read_frame(char *data, size_t bytes, struct ws_frame *frame) {
    unsigned char *in = (unsigned char *)data;
    if (bytes < 2) return 0;
    if ((in[0] & 0xF0) != 0x80 || !(in[1] & 0x80)) return -1;
    size_t short_bytes = in[1] & 0x7F, length_bytes = short_bytes == 126 ? 2 : short_bytes == 127 ? 8 : 0;
    uint64_t payload_bytes = length_bytes ? 0 : short_bytes;
    size_t header_bytes = 2 + length_bytes + 4;
    if (bytes < header_bytes) return 0;
    for (size_t i = 0; i < length_bytes; i++) payload_bytes = payload_bytes << 8 | in[2 + i];
    if (payload_bytes > WS_MAX_PAYLOAD) return -1;
    if (bytes - header_bytes < payload_bytes) return 0;
    const unsigned char *key = in + header_bytes - 4;
    for (size_t i = 0; i < payload_bytes; i++) in[header_bytes + i] ^= key[i & 3];
    *frame = (struct ws_frame){in[0] & 0x0F, data + header_bytes, (size_t)payload_bytes};
    return (long)(header_bytes + payload_bytes);
}

size_t ws_write_header(char *at, unsigned opcode, size_t payload_bytes) {
    unsigned char *out = (unsigned char *)at;
    size_t length_bytes = payload_bytes < 126 ? 0 : payload_bytes < 65536 ? 2 : 8;
    *out++ = (unsigned char)(0x80 | opcode);
    *out++ = (unsigned char)(length_bytes == 0 ? payload_bytes : length_bytes == 2 ? 126 : 127);
    for (size_t i = length_bytes; i-- > 0;) *out++ = (unsigned char)(payload_bytes >> (8 * i));
    return 2 + length_bytes;
}

size_t ws_write_answer(char *at, size_t capacity, const char *request, size_t request_bytes) {
    unsigned char joined[KEY_BYTES + sizeof GUID], digest[SHA1_BYTES];
    char accept[32];
    const char *field = memmem(request, request_bytes, KEY_FIELD, sizeof KEY_FIELD - 1);
    if (!field || field + sizeof KEY_FIELD - 1 + KEY_BYTES > request + request_bytes) return 0;
    memcpy(joined, field + sizeof KEY_FIELD - 1, KEY_BYTES);
    memcpy(joined + KEY_BYTES, GUID, sizeof GUID - 1);
    sha1(joined, KEY_BYTES + sizeof GUID - 1, digest);
    base64(digest, SHA1_BYTES, accept);
    int bytes = snprintf(at, capacity,
                         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Accept: %s\r\n\r\n",
                         accept);
    return bytes > 0 && (size_t)bytes < capacity ? (size_t)bytes : 0;
}
