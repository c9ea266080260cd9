/*
 * Base64 (RFC 4648, section 4): standard alphabet, padding required, nothing else accepted.
 */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Decodes; `out` has room for 3 bytes per 4 characters and may be `text` itself or lie before it. */
bool base64_decode(const char *text, size_t len, uint8_t *out, size_t *out_len);
bool base64_encode(const uint8_t *data, size_t len, struct buf *out);
/* Into `out`, which has room for 4 characters per 3 bytes begun and a NUL. */
void base64_text(const uint8_t *data, size_t len, char *out);

#endif
