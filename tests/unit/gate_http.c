/*
 * The HTTP header parser and the handshake's digest: tables, every truncation, and seeded garbage.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/rng.h"
#include "gate/sha1.h"
#include "room/error.h"
#include "wire/http.h"

static const char GOOD[] = "GET /ws?a=1&b HTTP/1.1\r\nHost: x:1\r\nConnection: keep-alive ,\tUpgrade\r\nEmpty:\r\n"
                           "Connection: more\r\n\r\n";

/* Parses a copy of exactly that size, so that a read beyond its end is seen. */
static long parse(const void *data, size_t len, struct http_request *out)
{
    char *exact = malloc(len ? len : 1);
    memcpy(exact, data, len);
    long n = http_parse(exact, len, out);
    free(exact);
    return n;
}

Test(gate_http, good)
{
    struct http_request r;
    cr_assert_eq(http_parse(GOOD, sizeof GOOD - 1, &r), (long)sizeof GOOD - 1);
    cr_assert(http_is(r.method, "GET"));
    cr_assert(http_is(r.path, "/ws"));
    cr_assert(http_is(r.query, "a=1&b"));
    cr_assert_eq(r.minor, 1);
    cr_assert_eq(r.field_count, 4);
    cr_assert(http_is(*http_field(&r, "hOST"), "x:1"));
    cr_assert(http_is(*http_field(&r, "empty"), ""));
    cr_assert_null(http_field(&r, "Hos"));
    cr_assert(http_has_word(&r, "connection", "upgrade"));
    cr_assert(http_has_word(&r, "connection", "MORE"));
    cr_assert(http_has_word(&r, "connection", "keep-alive"));
    cr_assert_not(http_has_word(&r, "connection", "up"));
    cr_assert_not(http_has_word(&r, "empty", "x"));
}

Test(gate_http, truncated)
{
    struct http_request r;
    for (size_t n = 0; n < sizeof GOOD - 1; n++)
        cr_assert_eq(parse(GOOD, n, &r), 0, "%zu", n);
}

Test(gate_http, bad)
{
    static const char *const bad[] = {
        "\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.2\r\n\r\n", "GET / HTTP/2\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n", " GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1 \r\n\r\n", "GET x HTTP/1.1\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n", "GET /\x01 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n: no name\r\n\r\n", "GET / HTTP/1.1\r\nA : b\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", "GET / HTTP/1.1\r\nA: \x7f\r\n\r\n",
    };
    struct http_request r;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(parse(bad[i], strlen(bad[i]), &r), ROOM_E_BAD_FRAME, "%zu", i);
}

Test(gate_http, too_many_fields)
{
    struct http_request r;
    char text[2048] = "GET / HTTP/1.1\r\n";
    for (int i = 0; i < HTTP_MAX_HEADERS; i++)
        strcat(text, "A: b\r\n");
    size_t n = strlen(text);
    strcat(text, "\r\n");
    cr_assert_eq(parse(text, strlen(text), &r), (long)strlen(text));
    strcpy(text + n, "A: b\r\n\r\n");
    cr_assert_eq(parse(text, strlen(text), &r), ROOM_E_TOO_BIG);
}

Test(gate_http, end_is_found_across_pieces)
{
    size_t len = sizeof GOOD - 1;
    for (size_t fresh = 1; fresh <= len; fresh++)
        cr_assert_eq(http_end(GOOD, len, fresh), len);
}

Test(gate_http, garbage)
{
    struct rng chance;
    struct http_request r;
    rng_init(&chance, 42);
    for (int i = 0; i < 100000; i++) {
        char text[sizeof GOOD];
        memcpy(text, GOOD, sizeof GOOD);
        for (uint64_t k = 1 + rng_below(&chance, 4); k > 0; k--)
            text[rng_below(&chance, sizeof GOOD - 5)] = (char)rng_next(&chance);
        long n = parse(text, sizeof GOOD - 1, &r);
        cr_assert(n == ROOM_E_BAD_FRAME || (n > 0 && n <= (long)sizeof GOOD - 1));
    }
}

Test(gate_sha1, vectors)
{
    static const struct {
        const char *text, *base64;
    } table[] = {
        {"dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
        {"", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="},
        {"abc", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "hJg+RBw70m66rkqh+VEp5eVGcPE="},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        uint8_t digest[SHA1_BYTES];
        char out[SHA1_BASE64_SIZE];
        sha1(table[i].text, strlen(table[i].text), digest);
        base64_text(digest, sizeof digest, out);
        cr_assert_str_eq(out, table[i].base64);
    }
}
