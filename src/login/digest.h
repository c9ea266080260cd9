/*
 * SHA-256 (FIPS 180-4) of a text: what a registry may show of a secret.
 */
#ifndef LOGIN_DIGEST_H
#define LOGIN_DIGEST_H

#include <stddef.h>

enum { DIGEST_SIZE = 65 }; /* hexadecimal, with its NUL */

void digest(char out[DIGEST_SIZE], const void *data, size_t len);

#endif
