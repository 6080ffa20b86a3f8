#include "sha1.h"

#include <string.h>

enum { BLOCK_BYTES = 64 };

static uint32_t rotated(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

static void take_block(uint32_t state[5], const unsigned char *block) {
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++) w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20) f = (b & c) | (~b & d), k = 0x5A827999;
        else if (i < 40) f = b ^ c ^ d, k = 0x6ED9EBA1;
        else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8F1BBCDC;
        else f = b ^ c ^ d, k = 0xCA62C1D6;
        uint32_t next = rotated(a, 5) + f + e + k + w[i];
        e = d, d = c, c = rotated(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

void sha1(const unsigned char *message, size_t bytes, unsigned char digest[SHA1_BYTES]) {
    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    unsigned char padded[2 * BLOCK_BYTES] = {0};
    size_t total = bytes + 9 <= BLOCK_BYTES ? BLOCK_BYTES : 2 * BLOCK_BYTES;
    memcpy(padded, message, bytes);
    padded[bytes] = 0x80;
    padded[total - 2] = (unsigned char)(bytes * 8 >> 8);
    padded[total - 1] = (unsigned char)(bytes * 8);
    for (size_t at = 0; at < total; at += BLOCK_BYTES) take_block(state, padded + at);
    for (int i = 0; i < SHA1_BYTES; i++) digest[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
}

void base64(const unsigned char *data, size_t bytes, char *out) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes; i += 3) {
        uint32_t three = (uint32_t)data[i] << 16;
        if (i + 1 < bytes) three |= (uint32_t)data[i + 1] << 8;
        if (i + 2 < bytes) three |= data[i + 2];
        *out++ = letters[three >> 18];
        *out++ = letters[three >> 12 & 63];
        *out++ = i + 1 < bytes ? letters[three >> 6 & 63] : '=';
        *out++ = i + 2 < bytes ? letters[three & 63] : '=';
    }
    *out = '\0';
}
