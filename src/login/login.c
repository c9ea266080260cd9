/*
 * See login.h. The parts of a token in the order in which they are trusted: form, header, key, signature, claims.
 */
#include "login/login.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "login/keys.h"

#define ID_WORDS "1 to %d of A-Z a-z 0-9 _ - (not 'all')"

enum { SHOWN_SIZE = 41 };

struct login {
    char *path, *audience;
    int64_t leeway_ms;
    char *seen; /* what the file held when it was looked at last, good or bad; NULL: it could not be read */
    size_t seen_len;
    struct keys keys;
};

/* Takes the whole file: FIFOs and devices would block, or never end. */
static int read_file(const char *path, char **out, size_t *out_len, struct err_detail *detail)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(detail, errno == ENOENT ? ROOM_E_NOT_FOUND : ROOM_E_IO, "cannot read key file '%.150s': %s", path,
                       strerror(errno));
    int rc = 0;
    size_t len = 0;
    char *text = malloc(LOGIN_FILE_MAX + 1);
    if (!text)
        rc = err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    else if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        rc = err_set(detail, ROOM_E_INVALID, "key file '%.150s' is no regular file", path);
    while (!rc && len <= LOGIN_FILE_MAX) {
        ssize_t got = read(fd, text + len, LOGIN_FILE_MAX + 1 - len);
        if (got < 0 && errno != EINTR)
            rc = err_set(detail, ROOM_E_IO, "cannot read key file '%.150s': %s", path, strerror(errno));
        if (got == 0)
            break;
        len += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    if (!rc && len > LOGIN_FILE_MAX)
        rc = err_set(detail, ROOM_E_TOO_BIG, "key file '%.150s' has more than %d bytes", path, LOGIN_FILE_MAX);
    if (rc) {
        free(text);
        return rc;
    }
    *out = text;
    *out_len = len;
    return 0;
}

static void forget_text(char *text, size_t len)
{
    if (text)
        explicit_bzero(text, len);
    free(text);
}

/* `text` NULL: it could not be read, and `rc` says why. Keeps the former keys unless all of the new ones are good. */
static int take(struct login *l, char *text, size_t len, int rc, struct err_detail *detail)
{
    struct err_detail why = {{0}};
    struct keys *fresh = text ? malloc(sizeof(*fresh)) : NULL;
    if (text && !fresh)
        rc = err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    if (fresh)
        rc = keys_parse(fresh, text, len, &why);
    if (fresh && rc)
        err_set(detail, rc, "key file '%.100s': %s", l->path, why.text);
    if (fresh && !rc) {
        keys_clear(&l->keys);
        l->keys = *fresh;
        explicit_bzero(fresh, sizeof(*fresh));
    }
    free(fresh);
    forget_text(l->seen, l->seen_len);
    l->seen = text;
    l->seen_len = len;
    return rc;
}

int login_open(const struct login_config *config, struct login **out, struct err_detail *detail)
{
    struct login *l = calloc(1, sizeof(*l));
    char *text = NULL;
    size_t len = 0;
    if (l) {
        l->path = strdup(config->path);
        l->audience = config->audience ? strdup(config->audience) : NULL;
        l->leeway_ms = config->leeway_ms;
    }
    if (!l || !l->path || (config->audience && !l->audience)) {
        login_close(l);
        return err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    }
    int rc = read_file(l->path, &text, &len, detail);
    rc = take(l, text, len, rc, detail);
    if (rc)
        login_close(l);
    else
        *out = l;
    return rc;
}

void login_close(struct login *l)
{
    if (!l)
        return;
    keys_clear(&l->keys);
    forget_text(l->seen, l->seen_len);
    free(l->path);
    free(l->audience);
    free(l);
}

/* By what the file holds, not by its times: a file that is written twice within one tick of the clock has changed twice. */
int login_refresh(struct login *l, struct err_detail *detail)
{
    char *text = NULL;
    size_t len = 0;
    int rc = read_file(l->path, &text, &len, detail);
    bool same = text ? l->seen && l->seen_len == len && memcmp(l->seen, text, len) == 0 : !l->seen;
    if (same) {
        forget_text(text, len);
        return 0;
    }
    rc = take(l, text, len, rc, detail);
    return rc ? rc : 1;
}

unsigned login_key_count(const struct login *l)
{
    return l->keys.count;
}

/* A part of the token as a JSON object; NULL: it is none. */
static json_t *object_of(const char *part, size_t len)
{
    uint8_t bytes[LOGIN_TOKEN_MAX];
    size_t count = 0;
    json_t *root = keys_base64url(part, len, bytes, &count)
                       ? json_loadb((const char *)bytes, count, JSON_REJECT_DUPLICATES, NULL)
                       : NULL;
    if (json_is_object(root))
        return root;
    json_decref(root);
    return NULL;
}

/* What a token says of itself, fit for an error text: cut, and plain ASCII. */
static const char *shown(const char *text, char out[SHOWN_SIZE])
{
    size_t len = 0;
    for (; text && text[len] && len < SHOWN_SIZE - 1; len++)
        out[len] = text[len] >= ' ' && text[len] < 0x7f ? text[len] : '?';
    out[len] = 0;
    return out;
}

/* The key that the header names, if it is the right kind of header for it. */
static int key_of(const struct login *l, const json_t *header, const struct key **out, struct err_detail *detail)
{
    const json_t *named = json_object_get(header, "kid");
    const char *kid = json_string_value(named), *alg = json_string_value(json_object_get(header, "alg"));
    char text[SHOWN_SIZE];
    if (json_object_get(header, "crit"))
        return err_set(detail, ROOM_E_TOKEN_INVALID, "the token's header has \"crit\", which this server does not know");
    if (named && !kid)
        return err_set(detail, ROOM_E_TOKEN_INVALID, "the token's \"kid\" is not a string");
    const struct key *k = keys_find(&l->keys, kid);
    if (!k && !kid)
        return err_set(detail, ROOM_E_TOKEN_KEY, "the token names no key (\"kid\"), and this server has %u", l->keys.count);
    if (!k)
        return err_set(detail, ROOM_E_TOKEN_KEY, "the token is signed with key '%s', which this server does not have",
                       shown(kid, text));
    if (!alg || strcmp(alg, key_alg_name(k->alg)) != 0)
        return err_set(detail, ROOM_E_TOKEN_INVALID, "the token's \"alg\" is '%s', its key's is %s", shown(alg, text),
                       key_alg_name(k->alg));
    *out = k;
    return 0;
}

/* Seconds since 1970, perhaps with a fraction; false: no number, or none of our times. */
static bool time_claim(const json_t *value, struct wall *out)
{
    double seconds = json_number_value(value);
    if (!json_is_number(value) || !(seconds >= 0 && seconds <= 253402300799.0)) /* the year 9999 */
        return false;
    out->ms = (int64_t)(seconds * 1000);
    return true;
}

/* `aud` is one string or an array of them. */
static bool meant_for(const json_t *aud, const char *audience)
{
    if (json_is_string(aud))
        return strcmp(json_string_value(aud), audience) == 0;
    for (size_t i = 0; i < json_array_size(aud); i++) {
        const char *one = json_string_value(json_array_get(aud, i));
        if (one && strcmp(one, audience) == 0)
            return true;
    }
    return false;
}

static int check_times(const struct login *l, const json_t *body, struct wall now, struct wall *expires,
                       struct err_detail *detail)
{
    const json_t *nbf = json_object_get(body, "nbf");
    struct wall from = {0};
    if (!time_claim(json_object_get(body, "exp"), expires))
        return err_set(detail, ROOM_E_TOKEN_INVALID, "the token has no \"exp\", or one that is not a time in seconds");
    if (nbf && !time_claim(nbf, &from))
        return err_set(detail, ROOM_E_TOKEN_INVALID, "the token's \"nbf\" is not a time in seconds");
    expires->ms += l->leeway_ms;
    if (now.ms >= expires->ms)
        return err_set(detail, ROOM_E_TOKEN_EXPIRED, "the token expired %lld s ago; get a new one",
                       (long long)((now.ms - expires->ms + l->leeway_ms) / 1000));
    if (nbf && now.ms < from.ms - l->leeway_ms)
        return err_set(detail, ROOM_E_TOKEN_EARLY, "the token is good only from %lld s on; are the clocks right?",
                       (long long)((from.ms - now.ms + 999) / 1000));
    return 0;
}

static int claims_of(const struct login *l, const json_t *body, struct wall now, struct login_claims *out,
                     struct err_detail *detail)
{
    struct login_claims c = {0};
    const json_t *jti = json_object_get(body, "jti");
    const char *sub = json_string_value(json_object_get(body, "sub"));
    int rc = check_times(l, body, now, &c.expires, detail);
    if (rc)
        return rc;
    if (l->audience && !meant_for(json_object_get(body, "aud"), l->audience))
        return err_set(detail, ROOM_E_TOKEN_FOREIGN, "the token is not for '%.100s': its \"aud\" does not name it",
                       l->audience);
    if (!sub || !id_set(&c.player, sub))
        return err_set(detail, ROOM_E_TOKEN_INVALID, "the token's \"sub\" is no player id: " ID_WORDS, ID_MAX);
    if (jti && (!json_is_string(jti) || !id_set(&c.jti, json_string_value(jti))))
        return err_set(detail, ROOM_E_TOKEN_INVALID, "the token's \"jti\" cannot be revoked: wanted " ID_WORDS, ID_MAX);
    *out = c;
    return 0;
}

int login_check(const struct login *l, const char *token, size_t len, struct wall now, struct login_claims *out,
                struct err_detail *detail)
{
    uint8_t signature[LOGIN_TOKEN_MAX];
    size_t signature_len = 0;
    const struct key *k = NULL;
    if (len > LOGIN_TOKEN_MAX)
        return err_set(detail, ROOM_E_TOKEN_INVALID, "the token has %zu bytes, %d are allowed", len, LOGIN_TOKEN_MAX);
    const char *end = token + len, *dot = memchr(token, '.', len);
    const char *last = dot ? memchr(dot + 1, '.', (size_t)(end - dot - 1)) : NULL;
    if (!last || memchr(last + 1, '.', (size_t)(end - last - 1)) || dot - token > LOGIN_HEADER_MAX)
        return err_set(detail, ROOM_E_TOKEN_INVALID, "not a token: wanted header.body.signature (a signed JWT)");
    json_t *header = object_of(token, (size_t)(dot - token));
    int rc = header ? key_of(l, header, &k, detail)
                    : err_set(detail, ROOM_E_TOKEN_INVALID, "not a token: its header is no JSON object in base64url");
    json_decref(header);
    if (rc)
        return rc;
    if (!keys_base64url(last + 1, (size_t)(end - last - 1), signature, &signature_len) ||
        !key_verify(k, token, (size_t)(last - token), signature, signature_len))
        return err_set(detail, ROOM_E_TOKEN_INVALID, "the token's signature is wrong: it was changed, or has another key");
    json_t *body = object_of(dot + 1, (size_t)(last - dot - 1));
    rc = body ? claims_of(l, body, now, out, detail)
              : err_set(detail, ROOM_E_TOKEN_INVALID, "the token's body is no JSON object in base64url");
    json_decref(body);
    return rc;
}
