/*
 * The keys of a key file. Only files of login/ include this.
 */
#ifndef LOGIN_KEYS_H
#define LOGIN_KEYS_H

#include <gnutls/abstract.h>
#include <stdbool.h>

#include "login/login.h"

enum key_alg { KEY_HS256, KEY_EDDSA };

struct key {
    char kid[ID_SIZE]; /* empty: none */
    enum key_alg alg;
    uint8_t secret[LOGIN_SECRET_MAX]; /* HS256 */
    size_t secret_len;
    gnutls_pubkey_t public_key; /* EdDSA */
};

struct keys {
    unsigned count;
    struct key list[LOGIN_KEYS_MAX];
};

/* `keys` is empty before; on error too. */
MUST_USE int keys_parse(struct keys *keys, const char *text, size_t len, struct err_detail *detail);
/* Wipes them. */
void keys_clear(struct keys *keys);
/* `kid` NULL: the only one. NULL: there is none. */
const struct key *keys_find(const struct keys *keys, const char *kid);
const char *key_alg_name(enum key_alg alg);
/* Is `signature` of `data` this key's? */
bool key_verify(const struct key *k, const void *data, size_t len, const uint8_t *signature, size_t signature_len);

/* Base64url without padding (RFC 7515), one text for each byte string. `out` has room for 3 bytes per 4 characters begun. */
bool keys_base64url(const char *text, size_t len, uint8_t *out, size_t *out_len);

#endif
