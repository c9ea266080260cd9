/*
 * From HTTP to WebSocket: the opening handshake of RFC 6455, and an HTTP error for everything else on this port.
 *
 * Decides which request becomes a connection and which subprotocol it speaks. Invariant: a request is either upgraded or
 * answered and closed; there is no second request on a connection.
 */
#include <string.h>

#include "base/base64.h"
#include "gate/sha1.h"
#include "gate/state.h"
#include "wire/http.h"

static const char WS_GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

struct answer {
    const char *status;
    const char *field; /* one more header line, or "" */
    const char *text;
};

static const struct answer NOT_FOUND = {"404 Not Found", "", "players connect at /ws"};
static const struct answer BAD_METHOD = {"405 Method Not Allowed", "Allow: GET\r\n", "only GET"};
static const struct answer NO_UPGRADE = {"426 Upgrade Required", "Connection: Upgrade\r\nUpgrade: websocket\r\n",
                                         "this is a WebSocket"};
static const struct answer BAD_VERSION = {"426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n",
                                          "WebSocket version 13 is spoken here"};
static const struct answer BAD_KEY = {"400 Bad Request", "", "Sec-WebSocket-Key is missing or not 16 bytes in base64"};
static const struct answer BAD_REQUEST = {"400 Bad Request", "", "this is not an HTTP/1.1 request"};
static const struct answer TOO_LARGE = {"431 Request Header Fields Too Large", "", "the request header is too large"};

static void reply_error(struct conn *c, const struct answer *a)
{
    char text[512];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 %s\r\n%sContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
                     a->status, a->field, strlen(a->text) + 1, a->text);
    c->gate->stats.refused_http++;
    if (conn_write(c, text, (size_t)n))
        conn_close(c, "http");
}

static bool key_valid(const struct http_text *key)
{
    if (!key || key->len != 24 || memcmp(key->s + 22, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < 22; i++) {
        char ch = key->s[i];
        if (!((ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z') || ch == '+' || ch == '/'))
            return false;
    }
    return true;
}

static const struct answer *judge(const struct http_request *r)
{
    const struct http_text *version = http_field(r, "Sec-WebSocket-Version");
    if (!http_is(r->path, "/ws"))
        return &NOT_FOUND;
    if (!http_is(r->method, "GET"))
        return &BAD_METHOD;
    if (r->minor < 1 || !http_field(r, "Host"))
        return &BAD_REQUEST;
    if (!http_has_word(r, "Upgrade", "websocket") || !http_has_word(r, "Connection", "upgrade"))
        return &NO_UPGRADE;
    if (!version || !http_is(*version, "13"))
        return &BAD_VERSION;
    return key_valid(http_field(r, "Sec-WebSocket-Key")) ? NULL : &BAD_KEY;
}

/* Our first choice of what the client offers; none of ours offered: none, which browsers take for a refusal. */
static const char *choose_protocol(struct conn *c, const struct http_request *r)
{
    static const char msgpack_name[] = "roomd.v1.msgpack", json_name[] = "roomd.v1.json";
    bool msgpack = http_has_word(r, "Sec-WebSocket-Protocol", msgpack_name);
    if (!msgpack && !http_has_word(r, "Sec-WebSocket-Protocol", json_name))
        return NULL;
    c->encoding_set = c->encoding_fixed = true;
    c->encoding = msgpack ? GATE_MSGPACK : GATE_JSON;
    return msgpack ? msgpack_name : json_name;
}

static bool reply_upgrade(struct conn *c, const struct http_request *r)
{
    char text[256];
    char accept[SHA1_BASE64_SIZE];
    uint8_t digest[SHA1_BYTES];
    const struct http_text *key = http_field(r, "Sec-WebSocket-Key");
    int n = snprintf(text, sizeof text, "%.*s%s", (int)key->len, key->s, WS_GUID);
    sha1(text, (size_t)n, digest);
    base64_text(digest, sizeof digest, accept);
    const char *protocol = choose_protocol(c, r);
    n = snprintf(text, sizeof text,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
                 accept, protocol ? "Sec-WebSocket-Protocol: " : "", protocol ? protocol : "", protocol ? "\r\n" : "");
    return conn_write(c, text, (size_t)n);
}

/* `in` holds the whole header. True: upgraded. */
static bool handle(struct conn *c)
{
    struct http_request r;
    long n = http_parse(c->in.data, c->in.len, &r);
    const struct answer *bad = n > 0 ? judge(&r) : n == ROOM_E_TOO_BIG ? &TOO_LARGE : &BAD_REQUEST;
    if (bad)
        reply_error(c, bad);
    bool good = !bad && reply_upgrade(c, &r);
    buf_reset(&c->in);
    conn_release_in(c);
    return good;
}

void upgrade_feed(struct conn *c, const uint8_t *data, size_t len)
{
    size_t room = GATE_HTTP_BYTES - c->in.len;
    size_t take = len < room ? len : room;
    size_t before = c->in.len;
    if (!buf_write(&c->in, data, take)) {
        conn_drop(c, "no_memory");
        return;
    }
    size_t end = http_end(c->in.data, c->in.len, take);
    if (end == 0 && take < room)
        return;
    if (end == 0) {
        buf_reset(&c->in);
        conn_release_in(c);
        reply_error(c, &TOO_LARGE);
        return;
    }
    c->in.len = end;
    size_t used = end - before;
    if (!handle(c))
        return;
    conn_open(c, CONN_WS);
    if (used < len && c->state == CONN_WS)
        ws_feed(c, data + used, len - used);
}
