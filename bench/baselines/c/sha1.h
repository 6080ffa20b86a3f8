/* SHA-1 (RFC 3174) of short messages, and base64 (RFC 4648): what the opening handshake needs. */
#ifndef BASELINE_SHA1_H
#define BASELINE_SHA1_H

#include <stddef.h>
#include <stdint.h>

enum { SHA1_BYTES = 20, SHA1_MAX_MESSAGE = 119 };

/* At most SHA1_MAX_MESSAGE bytes. */
void sha1(const unsigned char *message, size_t bytes, unsigned char digest[SHA1_BYTES]);

/* Writes 4 characters for every 3 bytes begun, and a NUL. */
void base64(const unsigned char *data, size_t bytes, char *out);

#endif
