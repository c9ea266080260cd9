/*
 * Tokens that say who a player is: JWTs (RFC 7519, compact form), signed with HS256 or with EdDSA on Ed25519.
 *
 * Decides: which token is good now, and why another one is not. Must not know of sessions, nodes, or of tokens that were
 * revoked. The key that `kid` names decides the algorithm, never the token: `none`, or an HMAC made with the bytes of a
 * public key, cannot pass. Nothing of the body is read before the signature was found right.
 *
 * One thread. Limits: a token of LOGIN_TOKEN_MAX bytes, a key file of LOGIN_FILE_MAX bytes with LOGIN_KEYS_MAX keys.
 * Weak point: a check takes the caller's time, measured 2 us (HS256) and 100 us (EdDSA): a thousand players who come back at
 * once with Ed25519 tokens are a tenth of a second.
 */
#ifndef LOGIN_LOGIN_H
#define LOGIN_LOGIN_H

#include "base/err.h"
#include "base/id.h"
#include "base/time.h"

enum {
    LOGIN_TOKEN_MAX = 4096,
    LOGIN_HEADER_MAX = 1024,    /* characters of the token's first part */
    LOGIN_FILE_MAX = 64 * 1024,
    LOGIN_KEYS_MAX = 64,
    LOGIN_SECRET_MIN = 32,      /* bytes of an HS256 key: RFC 7518 asks for as many as the hash has */
    LOGIN_SECRET_MAX = 512,
};

struct login;

struct login_config {
    const char *path;     /* the key file: a JWK set (RFC 7517) */
    const char *audience; /* must be in `aud`; NULL: `aud` is not looked at */
    int64_t leeway_ms;    /* clocks may differ by so much: added to `exp`, taken off `nbf` */
};

struct login_claims {
    struct id player;    /* `sub` */
    struct id jti;       /* empty: the token has none */
    struct wall expires; /* `exp` and the leeway: from here on the token is not good any more */
};

/* Copies the config and reads the file. Returns owned in `out`: login_close(). The file's own faults (NOT_FOUND, IO, TOO_BIG,
 * INVALID) are told with the key and the member they are in; NO_MEMORY. */
MUST_USE int login_open(const struct login_config *config, struct login **out, struct err_detail *detail);
/* Takes NULL. */
void login_close(struct login *l);

/* Reads the file again. 0: it is as it was. 1: it has changed, and its keys hold from now on. An error: what is there now
 * cannot be used, and the keys stay as they were; told once, then 0 until the file changes again. */
MUST_USE int login_refresh(struct login *l, struct err_detail *detail);
unsigned login_key_count(const struct login *l);

/* Whose token is it? `now` is this machine's time, the one that is compared with another machine's: that is what `exp` means.
 *   TOKEN_INVALID   it is no token, or the signature is not its key's
 *   TOKEN_KEY       it names a key that is not in the file, or names none and there are several
 *   TOKEN_EXPIRED, TOKEN_EARLY   by `exp`, by `nbf`
 *   TOKEN_FOREIGN   made for others: `aud`
 * Writes `out` on success only. */
MUST_USE int login_check(const struct login *l, const char *token, size_t len, struct wall now, struct login_claims *out,
                         struct err_detail *detail);

#endif
