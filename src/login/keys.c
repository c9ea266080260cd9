/*
 * See keys.h. From the text of a JWK set to keys, and what a key says of a signature.
 *
 * Decides: which keys are taken. A key that cannot be used makes the whole file bad: a set that is half in force is found out
 * by the players only. Must not know where the text is from, nor what a token says.
 */
#include "login/keys.h"

#include <gnutls/crypto.h>
#include <jansson.h>
#include <string.h>

#include "base/base64.h"

enum { ED25519_BYTES = 32, HS256_BYTES = 32, BASE64_MAX = LOGIN_TOKEN_MAX };

const char *key_alg_name(enum key_alg alg)
{
    return alg == KEY_HS256 ? "HS256" : "EdDSA";
}

bool keys_base64url(const char *text, size_t len, uint8_t *out, size_t *out_len)
{
    char padded[BASE64_MAX + 4];
    uint8_t bytes[BASE64_MAX];
    if (len > BASE64_MAX || len % 4 == 1)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '+' || text[i] == '/' || text[i] == '=')
            return false;
        padded[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
    }
    while (len % 4)
        padded[len++] = '=';
    bool ok = base64_decode(padded, len, bytes, out_len);
    if (ok)
        memcpy(out, bytes, *out_len);
    gnutls_memset(padded, 0, sizeof(padded)); /* it may have been a secret */
    gnutls_memset(bytes, 0, sizeof(bytes));
    return ok;
}

/* A string member: NULL if it is absent; `bad` if it is something else than a string. */
static const char *text_of(const json_t *object, const char *name, bool *bad)
{
    const json_t *value = json_object_get(object, name);
    *bad |= value && !json_is_string(value);
    return json_string_value(value);
}

/* The words of a key that say what it is for; what they must be follows from `kty`. */
static int check_words(const json_t *jwk, const char *who, const char *alg, struct err_detail *detail)
{
    bool bad = false;
    const char *said = text_of(jwk, "alg", &bad), *use = text_of(jwk, "use", &bad);
    if (bad || (said && strcmp(said, alg) != 0))
        return err_set(detail, ROOM_E_INVALID, "%s: \"alg\" is '%.20s', wanted %s", who, said ? said : "no string", alg);
    if (use && strcmp(use, "sig") != 0)
        return err_set(detail, ROOM_E_INVALID, "%s: \"use\" is '%.20s', wanted sig", who, use);
    return 0;
}

static int take_secret(struct key *k, const json_t *jwk, const char *who, struct err_detail *detail)
{
    uint8_t bytes[BASE64_MAX];
    bool bad = false;
    const char *text = text_of(jwk, "k", &bad);
    int rc = check_words(jwk, who, "HS256", detail);
    if (rc)
        return rc;
    if (!text || strlen(text) > BASE64_MAX || !keys_base64url(text, strlen(text), bytes, &k->secret_len))
        return err_set(detail, ROOM_E_INVALID, "%s: \"k\" is not base64url without padding", who);
    if (k->secret_len < LOGIN_SECRET_MIN || k->secret_len > LOGIN_SECRET_MAX)
        rc = err_set(detail, ROOM_E_INVALID, "%s: \"k\" has %zu bytes, wanted %d to %d of chance", who, k->secret_len,
                     LOGIN_SECRET_MIN, LOGIN_SECRET_MAX);
    else
        memcpy(k->secret, bytes, k->secret_len);
    gnutls_memset(bytes, 0, sizeof(bytes));
    k->alg = KEY_HS256;
    return rc;
}

static int take_public(struct key *k, const json_t *jwk, const char *who, struct err_detail *detail)
{
    uint8_t bytes[BASE64_MAX];
    size_t len = 0;
    bool bad = false;
    const char *curve = text_of(jwk, "crv", &bad), *text = text_of(jwk, "x", &bad);
    int rc = check_words(jwk, who, "EdDSA", detail);
    if (rc)
        return rc;
    if (!curve || strcmp(curve, "Ed25519") != 0)
        return err_set(detail, ROOM_E_INVALID, "%s: \"crv\" is '%.20s', wanted Ed25519", who, curve ? curve : "absent");
    if (!text || strlen(text) > BASE64_MAX || !keys_base64url(text, strlen(text), bytes, &len) || len != ED25519_BYTES)
        return err_set(detail, ROOM_E_INVALID, "%s: \"x\" is not %d bytes in base64url without padding", who, ED25519_BYTES);
    gnutls_datum_t x = {bytes, ED25519_BYTES};
    if (gnutls_pubkey_init(&k->public_key) < 0)
        return err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    k->alg = KEY_EDDSA;
    rc = gnutls_pubkey_import_ecc_raw(k->public_key, GNUTLS_ECC_CURVE_ED25519, &x, NULL);
    return rc < 0 ? err_set(detail, ROOM_E_INVALID, "%s: \"x\" is no public key: %s", who, gnutls_strerror(rc)) : 0;
}

static int take(struct keys *keys, const json_t *jwk, struct err_detail *detail)
{
    struct key *k = &keys->list[keys->count];
    char who[ID_SIZE + 32];
    bool bad = false;
    const char *kid = text_of(jwk, "kid", &bad), *kty = text_of(jwk, "kty", &bad);
    snprintf(who, sizeof(who), "key %u ('%.64s')", keys->count + 1, kid ? kid : "");
    if (!json_is_object(jwk))
        return err_set(detail, ROOM_E_INVALID, "%s is not an object", who);
    if (bad || (kid && (!*kid || strlen(kid) > ID_MAX)))
        return err_set(detail, ROOM_E_INVALID, "%s: \"kid\" and \"kty\" must be strings, \"kid\" of 1 to %d bytes", who,
                       ID_MAX);
    if (kid && keys_find(keys, kid))
        return err_set(detail, ROOM_E_INVALID, "%s: there is another key with this \"kid\"", who);
    memset(k, 0, sizeof(*k));
    keys->count++; /* from here on keys_clear() takes care of it */
    snprintf(k->kid, sizeof(k->kid), "%s", kid ? kid : "");
    if (kty && strcmp(kty, "oct") == 0)
        return take_secret(k, jwk, who, detail);
    if (kty && strcmp(kty, "OKP") == 0)
        return take_public(k, jwk, who, detail);
    return err_set(detail, ROOM_E_INVALID, "%s: \"kty\" is '%.20s', wanted oct (HS256) or OKP (Ed25519)", who,
                   kty ? kty : "absent");
}

static int take_all(struct keys *keys, const json_t *list, struct err_detail *detail)
{
    size_t count = json_array_size(list);
    int rc = 0;
    if (!json_is_array(list) || count == 0)
        return err_set(detail, ROOM_E_INVALID, "there is no key: wanted {\"keys\": [{\"kty\": \"oct\", \"kid\": \"a\", ...}]}");
    if (count > LOGIN_KEYS_MAX)
        return err_set(detail, ROOM_E_TOO_BIG, "%zu keys, wanted %d at most", count, LOGIN_KEYS_MAX);
    for (size_t i = 0; i < count && !rc; i++)
        rc = take(keys, json_array_get(list, i), detail);
    for (unsigned i = 0; i < keys->count && !rc; i++)
        if (keys->count > 1 && !keys->list[i].kid[0])
            rc = err_set(detail, ROOM_E_INVALID, "key %u has no \"kid\", so no token can name it; only a single key needs none",
                         i + 1);
    return rc;
}

int keys_parse(struct keys *keys, const char *text, size_t len, struct err_detail *detail)
{
    json_error_t why;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    keys->count = 0;
    if (!root)
        return err_set(detail, ROOM_E_INVALID, "line %d: %.100s", why.line, why.text);
    int rc = take_all(keys, json_object_get(root, "keys"), detail);
    json_decref(root);
    if (rc)
        keys_clear(keys);
    return rc;
}

void keys_clear(struct keys *keys)
{
    for (unsigned i = 0; i < keys->count; i++)
        if (keys->list[i].public_key)
            gnutls_pubkey_deinit(keys->list[i].public_key);
    gnutls_memset(keys, 0, sizeof(*keys));
}

const struct key *keys_find(const struct keys *keys, const char *kid)
{
    if (!kid)
        return keys->count == 1 ? &keys->list[0] : NULL;
    for (unsigned i = 0; i < keys->count; i++)
        if (keys->list[i].kid[0] && strcmp(keys->list[i].kid, kid) == 0)
            return &keys->list[i];
    return NULL;
}

bool key_verify(const struct key *k, const void *data, size_t len, const uint8_t *signature, size_t signature_len)
{
    if (k->alg == KEY_HS256) {
        uint8_t mac[HS256_BYTES];
        /* gnutls_memcmp() takes as long wherever the first difference is. */
        return signature_len == HS256_BYTES &&
               gnutls_hmac_fast(GNUTLS_MAC_SHA256, k->secret, k->secret_len, data, len, mac) == 0 &&
               gnutls_memcmp(mac, signature, HS256_BYTES) == 0;
    }
    gnutls_datum_t d = {(unsigned char *)(uintptr_t)data, (unsigned)len};
    gnutls_datum_t s = {(unsigned char *)(uintptr_t)signature, (unsigned)signature_len};
    return gnutls_pubkey_verify_data2(k->public_key, GNUTLS_SIGN_EDDSA_ED25519, 0, &d, &s) >= 0;
}
