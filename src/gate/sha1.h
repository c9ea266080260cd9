/*
 * SHA-1 (FIPS 180-4), for the WebSocket handshake only, where the standard asks for it. Not for anything secret.
 */
#ifndef GATE_SHA1_H
#define GATE_SHA1_H

#include <stddef.h>
#include <stdint.h>

enum { SHA1_BYTES = 20, SHA1_BASE64_SIZE = 29 /* the digest as base64, with a NUL */ };

void sha1(const void *data, size_t len, uint8_t out[SHA1_BYTES]);

#endif
