/*
 * Is this text UTF-8? (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.)
 */
#ifndef WIRE_UTF8_H
#define WIRE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* On true, `*chars` (may be NULL) is the number of code points. */
bool utf8_check(const char *s, size_t len, size_t *chars);
/* Writes 1 to 4 bytes and returns how many; `code` is a valid code point. */
size_t utf8_put(char *out, unsigned code);

#endif
