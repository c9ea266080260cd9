/*
 * Tokens and key files: what is let in, and each refusal by its own code. The golden tokens were made by another program
 * (python3-cryptography) with the key of RFC 8037, appendix A; the others are signed here, with GnuTLS alone.
 */
#include <criterion/criterion.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/rng.h"
#include "login/login.h"

#define X "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
#define K "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
#define KEY_A "{\"kty\":\"oct\",\"kid\":\"a\",\"alg\":\"HS256\",\"k\":\"" K "\"}"
#define KEY_B "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"b\",\"x\":\"" X "\"}"
#define KEYS "{\"keys\":[" KEY_A "," KEY_B "]}"
#define HS_HEADER "{\"alg\":\"HS256\",\"kid\":\"a\"}"
#define ED_HEADER "{\"alg\":\"EdDSA\",\"kid\":\"b\"}"
#define BODY "{\"sub\":\"ann\",\"exp\":2000000000}"
#define GOLDEN_HS \
    "eyJhbGciOiJIUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJhbm4iLCJleHAiOjIwMDAwMDAwMDB9." \
    "BJJDIr2ARzhnf2gSjtZvC1MJvkc2J6BeAMGiu4J7P68"
#define GOLDEN_ED \
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImIifQ.eyJzdWIiOiJhbm4iLCJleHAiOjIwMDAwMDAwMDAsImp0aSI6InQtMSJ9." \
    "Wz0pAxWTMY2-3-lka-Vg26NTMjA3cYXKBQtFGQir1faOYere1X9iOLTiWGVyzncVfCuxel69OoUd6uymGEWLBg"

enum { LEEWAY_MS = 30000, TOKEN_SIZE = 2 * LOGIN_TOKEN_MAX };
static const struct wall now = {1700000000000};
static const uint8_t secret[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                   16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

static char file[64];
static struct login *l;

static void write_file(const void *text, size_t len)
{
    if (!file[0])
        snprintf(file, sizeof(file), "/tmp/roomd-login-%d", (int)getpid());
    FILE *f = fopen(file, "wb");
    cr_assert(f && fwrite(text, 1, len, f) == len);
    fclose(f);
}

static void open_with(const char *keys, const char *audience)
{
    struct err_detail detail = {{0}};
    struct login_config c = {.path = file, .audience = audience, .leeway_ms = LEEWAY_MS};
    write_file(keys, strlen(keys));
    cr_assert_eq(login_open(&c, &l, &detail), 0, "%s", detail.text);
}

static void closed(void)
{
    login_close(l);
    l = NULL;
    unlink(file);
}

static void setup(void)
{
    open_with(KEYS, NULL);
}

/* Appends base64url. */
static void put(char *at, const void *data, size_t len)
{
    char text[2 * TOKEN_SIZE];
    base64_text(data, len, text);
    for (char *p = text; *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p == '=' ? 0 : *p;
    strcat(at, text);
}

static void head(char out[TOKEN_SIZE], const char *header, const char *body)
{
    out[0] = 0;
    put(out, header, strlen(header));
    strcat(out, ".");
    put(out, body, strlen(body));
}

static const char *hmac_token(const char *header, const char *body, const void *key, size_t key_len)
{
    static char out[TOKEN_SIZE];
    uint8_t mac[32];
    head(out, header, body);
    cr_assert_eq(gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, key_len, out, strlen(out), mac), 0);
    strcat(out, ".");
    put(out, mac, sizeof(mac));
    return out;
}

static const char *token(const char *body)
{
    return hmac_token(HS_HEADER, body, secret, sizeof(secret));
}

static int check_at(const char *t, struct wall at, struct login_claims *out, struct err_detail *detail)
{
    memset(detail, 0, sizeof(*detail));
    return login_check(l, t, strlen(t), at, out, detail);
}

/* A refusal has the code, words, and leaves `out` alone. */
static void refused(const char *t, int code, const char *words)
{
    struct err_detail detail;
    struct login_claims c = {.expires = {7}};
    int rc = check_at(t, now, &c, &detail);
    cr_expect_eq(rc, code, "%.60s: %s, wanted %s: %s", t, room_error_name(rc), room_error_name(code), detail.text);
    cr_expect(strstr(detail.text, words), "'%s' lacks '%s'", detail.text, words);
    cr_expect(c.expires.ms == 7 && !c.player.s[0]);
}

static void accepted(const char *t, const char *player, const char *jti)
{
    struct err_detail detail;
    struct login_claims c = {0};
    cr_expect_eq(check_at(t, now, &c, &detail), 0, "%.60s: %s", t, detail.text);
    cr_expect_str_eq(c.player.s, player);
    cr_expect_str_eq(c.jti.s, jti);
}

TestSuite(login, .init = setup, .fini = closed);

Test(login, golden_tokens_of_both_kinds)
{
    struct login_claims c;
    struct err_detail detail;
    accepted(GOLDEN_HS, "ann", "");
    accepted(GOLDEN_ED, "ann", "t-1");
    cr_assert_eq(check_at(GOLDEN_HS, now, &c, &detail), 0);
    cr_expect_eq(c.expires.ms, 2000000000000 + LEEWAY_MS);
    cr_expect_str_eq(token(BODY), GOLDEN_HS, "this file signs as others do");
}

Test(login, every_changed_character_is_noticed)
{
    static const char *const golden[] = {GOLDEN_HS, GOLDEN_ED};
    struct err_detail detail;
    for (int g = 0; g < 2; g++) {
        char t[TOKEN_SIZE];
        for (size_t i = 0; i < strlen(golden[g]); i++) {
            struct login_claims c;
            strcpy(t, golden[g]);
            t[i] = t[i] == 'Q' ? 'R' : 'Q';
            cr_expect_neq(check_at(t, now, &c, &detail), 0, "character %zu", i);
            cr_expect(detail.text[0]);
            cr_expect_neq(login_check(l, golden[g], i, now, &c, &detail), 0, "cut at %zu", i);
        }
    }
    refused(hmac_token(HS_HEADER, BODY, "another key, also of thirty-two b", 32), ROOM_E_TOKEN_INVALID, "signature is wrong");
    char longer[TOKEN_SIZE];
    snprintf(longer, sizeof(longer), "%sA", GOLDEN_HS);
    refused(longer, ROOM_E_TOKEN_INVALID, "signature is wrong");
    snprintf(longer, sizeof(longer), "%s=", GOLDEN_HS);
    refused(longer, ROOM_E_TOKEN_INVALID, "signature is wrong");
}

Test(login, the_key_decides_the_algorithm)
{
    uint8_t x[48];
    size_t len;
    char unsigned_token[TOKEN_SIZE];
    /* Signed with what anybody may know: the bytes of the public key, raw and as they stand in the file. */
    cr_assert(base64_decode("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", 44, x, &len) && len == 32);
    refused(hmac_token("{\"alg\":\"HS256\",\"kid\":\"b\"}", BODY, x, len), ROOM_E_TOKEN_INVALID, "'HS256', its key's is EdDSA");
    refused(hmac_token(ED_HEADER, BODY, x, len), ROOM_E_TOKEN_INVALID, "signature is wrong");
    refused(hmac_token(ED_HEADER, BODY, "", 0), ROOM_E_TOKEN_INVALID, "signature is wrong"); /* an Ed25519 key has no secret */
    refused(hmac_token("{\"alg\":\"HS256\",\"kid\":\"b\"}", BODY, X, strlen(X)), ROOM_E_TOKEN_INVALID, "\"alg\"");
    refused(hmac_token("{\"alg\":\"EdDSA\",\"kid\":\"a\"}", BODY, secret, 32), ROOM_E_TOKEN_INVALID, "'EdDSA', its key's is HS256");
    refused(hmac_token("{\"alg\":\"HS512\",\"kid\":\"a\"}", BODY, secret, 32), ROOM_E_TOKEN_INVALID, "\"alg\" is 'HS512'");
    refused(hmac_token("{\"alg\":\"hs256\",\"kid\":\"a\"}", BODY, secret, 32), ROOM_E_TOKEN_INVALID, "\"alg\" is 'hs256'");
    refused(hmac_token("{\"kid\":\"a\"}", BODY, secret, 32), ROOM_E_TOKEN_INVALID, "\"alg\" is ''");
    refused(hmac_token("{\"alg\":7,\"kid\":\"a\"}", BODY, secret, 32), ROOM_E_TOKEN_INVALID, "\"alg\" is ''");
    static const char *const none[] = {"none", "None", "NONE", ""};
    for (int i = 0; i < 4; i++) {
        char header[64];
        snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"a\"}", none[i]);
        head(unsigned_token, header, BODY);
        strcat(unsigned_token, ".");
        refused(unsigned_token, ROOM_E_TOKEN_INVALID, "its key's is HS256");
    }
    head(unsigned_token, HS_HEADER, BODY);
    strcat(unsigned_token, ".");
    refused(unsigned_token, ROOM_E_TOKEN_INVALID, "signature is wrong");
    refused(hmac_token("{\"alg\":\"HS256\",\"kid\":\"a\",\"crit\":[\"b64\"],\"b64\":false}", BODY, secret, 32),
            ROOM_E_TOKEN_INVALID, "\"crit\"");
}

Test(login, kid_picks_the_key)
{
    static const char *const no_kid = "{\"alg\":\"HS256\"}";
    refused(hmac_token("{\"alg\":\"HS256\",\"kid\":\"c\"}", BODY, secret, 32), ROOM_E_TOKEN_KEY, "key 'c'");
    refused(hmac_token("{\"alg\":\"HS256\",\"kid\":\"\"}", BODY, secret, 32), ROOM_E_TOKEN_KEY, "key ''");
    refused(hmac_token("{\"alg\":\"HS256\",\"kid\":[\"a\"]}", BODY, secret, 32), ROOM_E_TOKEN_INVALID, "is not a string");
    refused(hmac_token(no_kid, BODY, secret, 32), ROOM_E_TOKEN_KEY, "names no key");
    closed();
    open_with("{\"keys\":[" KEY_A "]}", NULL);
    accepted(hmac_token(no_kid, BODY, secret, 32), "ann", "");
    refused(GOLDEN_ED, ROOM_E_TOKEN_KEY, "key 'b'");
    closed();
    open_with("{\"keys\":[{\"kty\":\"oct\",\"k\":\"" K "\"}]}", NULL); /* alg follows from kty */
    accepted(hmac_token(no_kid, BODY, secret, 32), "ann", "");
    refused(GOLDEN_HS, ROOM_E_TOKEN_KEY, "key 'a'");
}

/* An error text is a frame's field: it must be plain, whatever the token says. */
Test(login, texts_are_plain)
{
    struct login_claims c;
    struct err_detail detail;
    char header[512] = "{\"alg\":\"HS256\",\"kid\":\"\\u0007";
    for (int i = 0; i < 60; i++)
        strcat(header, "\xc3\xa4");
    strcat(header, "\"}");
    cr_assert_eq(check_at(hmac_token(header, BODY, secret, 32), now, &c, &detail), ROOM_E_TOKEN_KEY);
    for (const char *p = detail.text; *p; p++)
        cr_expect(*p >= ' ' && *p < 0x7f, "character %td", p - detail.text);
}

Test(login, times)
{
    struct login_claims c;
    struct err_detail detail;
    static const struct {
        const char *body;
        int64_t at;
        int code;
    } rows[] = {
        {"{\"sub\":\"ann\",\"exp\":1000}", 1029999, 0},
        {"{\"sub\":\"ann\",\"exp\":1000}", 1030000, ROOM_E_TOKEN_EXPIRED},
        {"{\"sub\":\"ann\",\"exp\":1000.5}", 1030499, 0},
        {"{\"sub\":\"ann\",\"exp\":1000.5}", 1030500, ROOM_E_TOKEN_EXPIRED},
        {"{\"sub\":\"ann\",\"exp\":5000,\"nbf\":1000}", 970000, 0},
        {"{\"sub\":\"ann\",\"exp\":5000,\"nbf\":1000}", 969999, ROOM_E_TOKEN_EARLY},
        {"{\"sub\":\"ann\",\"exp\":0}", 1700000000000, ROOM_E_TOKEN_EXPIRED},
        {"{\"sub\":\"ann\"}", 0, ROOM_E_TOKEN_INVALID},
        {"{\"sub\":\"ann\",\"exp\":\"2000000000\"}", 0, ROOM_E_TOKEN_INVALID},
        {"{\"sub\":\"ann\",\"exp\":null}", 0, ROOM_E_TOKEN_INVALID},
        {"{\"sub\":\"ann\",\"exp\":true}", 0, ROOM_E_TOKEN_INVALID},
        {"{\"sub\":\"ann\",\"exp\":-1}", 0, ROOM_E_TOKEN_INVALID},
        {"{\"sub\":\"ann\",\"exp\":1e300}", 0, ROOM_E_TOKEN_INVALID},
        {"{\"sub\":\"ann\",\"exp\":9223372036854775807}", 0, ROOM_E_TOKEN_INVALID},
        {"{\"sub\":\"ann\",\"exp\":5000,\"nbf\":\"1\"}", 0, ROOM_E_TOKEN_INVALID},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int rc = check_at(token(rows[i].body), (struct wall){rows[i].at}, &c, &detail);
        cr_expect_eq(rc, rows[i].code, "row %zu: %s %s", i, room_error_name(rc), detail.text);
    }
    cr_expect_eq(check_at(token("{\"sub\":\"ann\",\"exp\":1000}"), (struct wall){1090000}, &c, &detail), ROOM_E_TOKEN_EXPIRED);
    cr_expect(strstr(detail.text, "expired 90 s ago"), "%s", detail.text);
}

Test(login, who_and_which_token)
{
    accepted(token("{\"sub\":\"bob\",\"exp\":2000000000,\"jti\":\"x_1\",\"more\":[{}]}"), "bob", "x_1");
    static const char *const bad[] = {
        "{\"exp\":2000000000}", "{\"sub\":7,\"exp\":2000000000}", "{\"sub\":\"\",\"exp\":2000000000}",
        "{\"sub\":\"a.b\",\"exp\":2000000000}", "{\"sub\":\"all\",\"exp\":2000000000}",
        "{\"sub\":\"a\\u0000\",\"exp\":2000000000}",
        "{\"sub\":\"ann\",\"sub\":\"bob\",\"exp\":2000000000}", "{\"sub\":\"ann\",\"exp\":2000000000,\"jti\":\"player.bob\"}",
        "{\"sub\":\"ann\",\"exp\":2000000000,\"jti\":7}", "{\"sub\":\"ann\",\"exp\":2000000000,\"jti\":\"\"}",
        "[]", "7", "\"ann\"", "", "{",
        "{\"sub\":\"ann\",\"exp\":2000000000}x",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refused(token(bad[i]), ROOM_E_TOKEN_INVALID, "token's");
}

Test(login, audience)
{
    refused(token("{\"sub\":\"ann\",\"exp\":1,\"aud\":\"y\"}"), ROOM_E_TOKEN_EXPIRED, "expired");
    accepted(token("{\"sub\":\"ann\",\"exp\":2000000000,\"aud\":\"other\"}"), "ann", "");
    closed();
    open_with(KEYS, "game");
    accepted(token("{\"sub\":\"ann\",\"exp\":2000000000,\"aud\":\"game\"}"), "ann", "");
    accepted(token("{\"sub\":\"ann\",\"exp\":2000000000,\"aud\":[\"shop\",7,\"game\"]}"), "ann", "");
    static const char *const foreign[] = {"", ",\"aud\":\"gam\"", ",\"aud\":\"games\"", ",\"aud\":[]", ",\"aud\":[\"shop\"]",
                                          ",\"aud\":[\"\",\"gam\",\"games\",[\"game\"]]",
                                          ",\"aud\":{\"game\":1}", ",\"aud\":7"};
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        char body[128];
        snprintf(body, sizeof(body), "{\"sub\":\"ann\",\"exp\":2000000000%s}", foreign[i]);
        refused(token(body), ROOM_E_TOKEN_FOREIGN, "not for 'game'");
    }
}

Test(login, what_is_no_token)
{
    static const char *const bad[] = {"",       ".",        "..",         "...",       "a.b.c",  "{}.{}.{}",  "e30.e30",
                                      "e30..",  "e30.e30.", "e30=.e30.x", " e30.e30.", "e3 0..", "bnVsbA..x", "W10.e30.x",
                                      "e30.e30.e30.e30.e30"}; /* the last has the form of a JWE */
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct login_claims c;
        struct err_detail detail;
        int rc = check_at(bad[i], now, &c, &detail);
        cr_expect(rc == ROOM_E_TOKEN_INVALID || rc == ROOM_E_TOKEN_KEY, "'%s': %d", bad[i], rc);
    }
    char t[3 * LOGIN_TOKEN_MAX];
    memset(t, 'A', sizeof(t));
    t[sizeof(t) - 1] = 0;
    refused(t, ROOM_E_TOKEN_INVALID, "4096 are allowed");
    t[2000] = t[3000] = '.';
    t[LOGIN_TOKEN_MAX] = 0;
    refused(t, ROOM_E_TOKEN_INVALID, "not a token");
    /* Depth: of the header, which anybody may write, and of a body that is rightly signed. */
    char deep[2048] = "";
    memset(deep, '[', 700);
    head(t, deep, BODY);
    strcat(t, ".AA");
    refused(t, ROOM_E_TOKEN_INVALID, "header is no JSON object");
    snprintf(deep, sizeof(deep), "{\"sub\":\"ann\",\"exp\":2000000000,\"x\":");
    memset(deep + strlen(deep), '[', 1500);
    refused(token(deep), ROOM_E_TOKEN_INVALID, "body is no JSON object");
    for (uint64_t seed = 0; seed < 2000; seed++) { /* anything at all: an answer, and no crash */
        struct rng r;
        struct login_claims c;
        struct err_detail detail;
        rng_init(&r, seed);
        size_t len = strlen(GOLDEN_ED);
        memcpy(t, GOLDEN_ED, len);
        for (int k = 0; k < 4; k++)
            t[rng_below(&r, len)] = (char)rng_below(&r, 256);
        if (memcmp(t, GOLDEN_ED, len) != 0)
            cr_expect_neq(login_check(l, t, len, now, &c, &detail), 0, "seed %d", (int)seed);
    }
}

static void bad_file(const char *text, size_t len, int code, const char *words)
{
    struct err_detail detail = {{0}};
    struct login *other = NULL;
    struct login_config c = {.path = file};
    write_file(text, len);
    int rc = login_open(&c, &other, &detail);
    cr_expect_eq(rc, code, "%.60s: %s %s", text, room_error_name(rc), detail.text);
    cr_expect(strstr(detail.text, words) && strstr(detail.text, "key file '/tmp/"), "'%s' lacks '%s'", detail.text, words);
    cr_expect_null(other);
}

Test(login, files_that_are_refused)
{
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"", "line 1"}, {"{", "line 1"}, {"[]", "there is no key"}, {"{}", "there is no key"},
        {"{\"keys\":{}}", "there is no key"},
        {"{\"keys\":[]}", "there is no key"}, {"{\"keys\":[7]}", "key 1 ('') is not an object"},
        {"{\"keys\":[" KEY_A "," KEY_A "]}", "key 2 ('a'): there is another key"},
        {"{\"keys\":[" KEY_A ",{\"kty\":\"oct\",\"k\":\"" K "\"}]}", "key 2 has no \"kid\""},
        {"{\"keys\":[{\"kid\":\"a\"}]}", "key 1 ('a'): \"kty\" is 'absent'"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\"}]}", "\"kty\" is 'RSA', wanted oct (HS256) or OKP (Ed25519)"},
        {"{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"c2hvcnQ\"}]}", "\"k\" has 5 bytes, wanted 32"},
        {"{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"" K "=\"}]}", "\"k\" is not base64url"},
        {"{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\"}]}", "\"k\" is not base64url"},
        {"{\"keys\":[{\"kty\":\"oct\",\"alg\":\"HS512\",\"k\":\"" K "\"}]}", "\"alg\" is 'HS512', wanted HS256"},
        {"{\"keys\":[{\"kty\":\"oct\",\"alg\":\"EdDSA\",\"k\":\"" K "\"}]}", "\"alg\" is 'EdDSA', wanted HS256"},
        {"{\"keys\":[{\"kty\":\"oct\",\"use\":\"enc\",\"k\":\"" K "\"}]}", "\"use\" is 'enc'"},
        {"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"" X "\"}]}", "\"crv\" is 'X25519', wanted Ed25519"},
        {"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}", "\"x\" is not 32 bytes"},
        {"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"alg\":\"HS256\",\"x\":\"" X "\"}]}", "'HS256', wanted EdDSA"},
        {"{\"keys\":[{\"kty\":\"oct\",\"kid\":7,\"k\":\"" K "\"}]}", "must be strings"},
        {"{\"keys\":[{\"kty\":\"oct\",\"kid\":\"\",\"k\":\"" K "\"}]}", "must be strings"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        bad_file(rows[i].text, strlen(rows[i].text), ROOM_E_INVALID, rows[i].words);
}

/* `count` keys named 0, 1, 2 ... */
static struct buf many_keys(int count, size_t spaces)
{
    struct buf b;
    buf_init(&b, &alloc_libc, 1 << 20);
    buf_text(&b, "{\"keys\":[");
    for (int i = 0; i < count; i++)
        buf_printf(&b, "%s{\"kty\":\"oct\",\"kid\":\"%d\",\"k\":\"" K "\"}", i ? "," : "", i);
    buf_text(&b, "]}");
    for (size_t i = 0; i < spaces; i++)
        buf_byte(&b, ' ');
    return b;
}

Test(login, limits_of_a_file)
{
    struct err_detail detail = {{0}};
    struct login *other = NULL;
    struct login_config c = {.path = file};
    struct buf b = many_keys(LOGIN_KEYS_MAX + 1, 0);
    bad_file((char *)b.data, b.len, ROOM_E_TOO_BIG, "65 keys, wanted 64 at most");
    buf_deinit(&b);
    b = many_keys(LOGIN_KEYS_MAX, 0);
    size_t spaces = LOGIN_FILE_MAX - b.len;
    buf_deinit(&b);
    b = many_keys(LOGIN_KEYS_MAX, spaces + 1);
    bad_file((char *)b.data, b.len, ROOM_E_TOO_BIG, "more than 65536 bytes");
    write_file(b.data, b.len - 1);
    buf_deinit(&b);
    cr_assert_eq(login_open(&c, &other, &detail), 0, "%s", detail.text);
    cr_expect_eq(login_key_count(other), LOGIN_KEYS_MAX);
    login_close(other);
    c.path = "/nowhere/keys.json";
    cr_expect_eq(login_open(&c, &other, &detail), ROOM_E_NOT_FOUND);
    cr_expect(strstr(detail.text, "'/nowhere/keys.json'") && strstr(detail.text, "No such file"), "%s", detail.text);
    c.path = "/dev/zero"; /* it never ends */
    cr_expect_eq(login_open(&c, &other, &detail), ROOM_E_INVALID);
    c.path = "/tmp";
    cr_expect_eq(login_open(&c, &other, &detail), ROOM_E_INVALID, "%s", detail.text);
}

Test(login, keys_change_while_they_are_used)
{
    struct err_detail detail = {{0}};
    cr_expect_eq(login_refresh(l, &detail), 0);
    write_file("{\"keys\":[" KEY_B "]}", strlen("{\"keys\":[" KEY_B "]}"));
    cr_expect_eq(login_refresh(l, &detail), 1, "%s", detail.text);
    refused(GOLDEN_HS, ROOM_E_TOKEN_KEY, "key 'a'");
    accepted(GOLDEN_ED, "ann", "t-1");
    write_file("{\"keys\":[", 9); /* half of a file */
    cr_expect_eq(login_refresh(l, &detail), ROOM_E_INVALID);
    cr_expect(strstr(detail.text, "line 1"), "%s", detail.text);
    cr_expect_eq(login_refresh(l, &detail), 0, "told once");
    accepted(GOLDEN_ED, "ann", "t-1");
    unlink(file);
    cr_expect_eq(login_refresh(l, &detail), ROOM_E_NOT_FOUND);
    cr_expect_eq(login_refresh(l, &detail), 0, "told once");
    accepted(GOLDEN_ED, "ann", "t-1");
    write_file(KEYS, strlen(KEYS));
    cr_expect_eq(login_refresh(l, &detail), 1);
    accepted(GOLDEN_HS, "ann", "");
}
