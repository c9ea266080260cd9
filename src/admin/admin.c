/* See admin.h. A connection lives from accept to libuv's close callback; its deadline is looked at once in LOOK_MS. */
#include "admin/admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "wire/json_write.h"

enum { HEAD_MAX = 8 * 1024, LOOK_MS = 250, BACKLOG = 64 };

struct request {
    uv_tcp_t tcp;
    uv_write_t write;
    struct admin *admin;
    struct request *next, **at;
    uint64_t id, due_ms;
    struct buf in, out;
    size_t head;     /* bytes of the header; 0: not whole yet */
    size_t body;     /* bytes that follow */
    bool handed, answered, closing;
};

struct admin {
    struct admin_handler handler;
    const struct alloc *alloc;
    uv_loop_t *loop;
    uv_tcp_t listener;
    uv_timer_t timer;
    struct request *requests;
    unsigned count, handles;
    uint64_t last_id;
    int port;
    bool destroying;
    void (*done)(void *arg);
    void *done_arg;
    char token[ADMIN_TOKEN_MAX + 1];
    char read_buffer[16 * 1024];
};

static void handle_closed(struct admin *a)
{
    if (--a->handles > 0 || !a->destroying)
        return;
    void (*done)(void *) = a->done;
    void *arg = a->done_arg;
    alloc_put(a->alloc, a, sizeof(*a));
    if (done)
        done(arg);
}

static void on_own_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static void on_closed(uv_handle_t *handle)
{
    struct request *r = handle->data;
    struct admin *a = r->admin;
    *r->at = r->next;
    if (r->next)
        r->next->at = r->at;
    a->count--;
    buf_deinit(&r->in);
    buf_deinit(&r->out);
    alloc_put(a->alloc, r, sizeof(*r));
    handle_closed(a);
}

static void drop(struct request *r)
{
    if (!r->closing)
        uv_close((uv_handle_t *)&r->tcp, on_closed);
    r->closing = true;
}

/* ---- out ---- */

/* A close now could take the answer from a client that still sends: it ends the connection, or its time does. */
static void on_written(uv_write_t *write, int status)
{
    struct request *r = write->data;
    uv_os_fd_t fd;
    if (r->closing)
        return;
    if (status != 0 || uv_fileno((uv_handle_t *)&r->tcp, &fd) != 0)
        drop(r);
    else
        shutdown(fd, SHUT_WR);
}

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *text;
    } all[] = {{200, "OK"},        {202, "Accepted"},  {400, "Bad Request"},       {401, "Unauthorized"},
               {404, "Not Found"}, {405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"},
               {411, "Length Required"}, {413, "Content Too Large"}, {415, "Unsupported Media Type"},
               {422, "Unprocessable Content"},
               {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"}, {503, "Service Unavailable"},
               {504, "Gateway Timeout"}};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (all[i].status == status)
            return all[i].text;
    return "Internal Server Error";
}

static void write_answer(struct request *r, int status, const char *json, size_t len)
{
    if (r->answered || r->closing)
        return;
    r->answered = true;
    r->due_ms = uv_now(r->admin->loop) + ADMIN_ANSWER_MS;
    buf_reset(&r->out);
    const char *field = status == 401 ? "WWW-Authenticate: Bearer\r\n" : status == 405 ? "Allow: GET, POST\r\n" : "";
    buf_printf(&r->out,
               "HTTP/1.1 %d %s\r\n%sContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
               status, reason_of(status), field, len + 1);
    buf_write(&r->out, json, len);
    buf_byte(&r->out, '\n');
    uv_buf_t b = uv_buf_init((char *)r->out.data, (unsigned)r->out.len);
    r->write.data = r;
    if (r->out.failed || uv_write(&r->write, (uv_stream_t *)&r->tcp, &b, 1, on_written) != 0)
        drop(r);
}

static void write_error(struct request *r, int status, const char *word, const char *text)
{
    struct buf json;
    buf_init(&json, r->admin->alloc, 8 * 1024);
    buf_printf(&json, "{\"error\":\"%s\",\"message\":", word);
    json_write_str(&json, text, strlen(text));
    buf_byte(&json, '}');
    if (json.failed)
        drop(r);
    else
        write_answer(r, status, (const char *)json.data, json.len);
    buf_deinit(&json);
}

static struct request *find(struct admin *a, uint64_t id)
{
    struct request *r = a->requests;
    while (r && r->id != id)
        r = r->next;
    return r;
}

void admin_answer(struct admin *a, uint64_t id, int status, const char *json, size_t len)
{
    struct request *r = a ? find(a, id) : NULL;
    if (r)
        write_answer(r, status, json, len);
}

void admin_refuse(struct admin *a, uint64_t id, int status, const char *word, const char *text)
{
    struct request *r = a ? find(a, id) : NULL;
    if (r)
        write_error(r, status, word, text);
}

/* ---- in ---- */

/* How long it takes does not tell how much of it is right. */
static bool bears_token(const struct admin *a, const struct http_request *h)
{
    const struct http_text *f = http_field(h, "Authorization");
    size_t len = strlen(a->token);
    unsigned differ = 0;
    if (len == 0)
        return true;
    if (!f || f->len != len + 7 || strncasecmp(f->s, "Bearer ", 7) != 0)
        return false;
    for (size_t i = 0; i < len; i++)
        differ |= (unsigned)(uint8_t)(f->s[7 + i] ^ a->token[i]);
    return differ == 0;
}

static bool is_json(const struct http_request *h)
{
    static const char json[] = "application/json";
    const struct http_text *f = http_field(h, "Content-Type");
    size_t len = sizeof(json) - 1;
    return f && f->len >= len && strncasecmp(f->s, json, len) == 0 && (f->len == len || f->s[len] == ';' || f->s[len] == ' ');
}

/* False: refused. */
static bool body_length(struct request *r, const struct http_request *h)
{
    const struct http_text *f = http_field(h, "Content-Length");
    size_t value = 0;
    if (http_field(h, "Transfer-Encoding")) {
        write_error(r, 411, "bad_frame", "send the body whole, with Content-Length; chunks are not read here");
        return false;
    }
    for (size_t i = 0; f && i < f->len; i++) {
        if (f->s[i] < '0' || f->s[i] > '9' || f->len > 10) {
            write_error(r, 400, "bad_frame", "Content-Length is no number of bytes");
            return false;
        }
        value = value * 10 + (size_t)(f->s[i] - '0');
    }
    if (value > ADMIN_BODY_MAX) {
        write_error(r, 413, "too_big", "a body may have 1 MiB at most");
        return false;
    }
    r->body = value;
    return true;
}

/* Once the header is whole. False: refused. */
static bool begin(struct request *r)
{
    struct http_request h;
    long n = http_parse(r->in.data, r->in.len, &h);
    if (n <= 0) {
        write_error(r, n == ROOM_E_TOO_BIG ? 431 : 400, "bad_frame", "this is not an HTTP/1.1 request");
        return false;
    }
    if (!http_is(h.method, "GET") && !http_is(h.method, "POST")) {
        write_error(r, 405, "unknown_op", "only GET and POST");
        return false;
    }
    if (!body_length(r, &h))
        return false;
    if (http_is(h.method, "POST") && bears_token(r->admin, &h) && !is_json(&h)) {
        write_error(r, 415, "bad_frame", "send JSON, with Content-Type: application/json");
        return false;
    }
    r->head = (size_t)n;
    if (http_has_word(&h, "Expect", "100-continue")) {
        uv_buf_t go = uv_buf_init((char *)"HTTP/1.1 100 Continue\r\n\r\n", 25);
        (void)uv_try_write((uv_stream_t *)&r->tcp, &go, 1); /* if it does not get through, the client goes on by itself */
    }
    return true;
}

static void hand_up(struct request *r)
{
    struct admin *a = r->admin;
    struct http_request h;
    r->handed = true;
    r->due_ms = uv_now(a->loop) + ADMIN_ANSWER_MS;
    if (http_parse(r->in.data, r->in.len, &h) <= 0)
        return; /* it was read before */
    struct admin_request up = {.method = h.method, .path = h.path, .body = (const char *)r->in.data + r->head, .len = r->body,
                               .allowed = bears_token(a, &h)};
    a->handler.request(a->handler.arg, r->id, &up);
}

static void feed(struct request *r, const char *data, size_t len)
{
    if (r->handed || r->answered)
        return; /* thrown away: the client may still send when it is answered already */
    if (!buf_write(&r->in, data, len)) {
        write_error(r, 413, "too_big", "a body may have 1 MiB at most");
        return;
    }
    if (!r->head && !http_end(r->in.data, r->in.len, len)) {
        if (r->in.len > HEAD_MAX)
            write_error(r, 431, "too_big", "the request header is too large");
        return;
    }
    if ((r->head || begin(r)) && r->in.len >= r->head + r->body)
        hand_up(r);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    struct request *r = s->data;
    if (n < 0)
        drop(r);
    else if (n > 0)
        feed(r, b->base, (size_t)n);
}

static void give_read_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct admin *a = ((struct request *)handle->data)->admin;
    *out = uv_buf_init(a->read_buffer, sizeof(a->read_buffer));
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct admin *a = listener->data;
    struct request *r = status == 0 ? alloc_get(a->alloc, sizeof(*r)) : NULL;
    if (!r || uv_tcp_init(a->loop, &r->tcp) != 0) {
        alloc_put(a->alloc, r, sizeof(*r));
        return;
    }
    r->admin = a;
    r->tcp.data = r;
    r->id = ++a->last_id;
    r->due_ms = uv_now(a->loop) + ADMIN_READ_MS;
    buf_init(&r->in, a->alloc, HEAD_MAX + ADMIN_BODY_MAX + sizeof(a->read_buffer));
    buf_init(&r->out, a->alloc, 2 * ADMIN_BODY_MAX);
    r->next = a->requests;
    r->at = &a->requests;
    if (r->next)
        r->next->at = &r->next;
    a->requests = r;
    a->count++;
    a->handles++;
    if (uv_accept(listener, (uv_stream_t *)&r->tcp) != 0 || a->count > ADMIN_CONNECTIONS ||
        uv_read_start((uv_stream_t *)&r->tcp, give_read_buffer, on_read) != 0)
        drop(r);
}

static void on_timer(uv_timer_t *timer)
{
    struct admin *a = timer->data;
    for (struct request *r = a->requests; r; r = r->next) {
        if (r->closing || uv_now(a->loop) < r->due_ms)
            continue;
        if (r->answered)
            drop(r);
        else if (r->handed)
            write_error(r, 504, "timeout", "no answer in time: it may have been done or not");
        else
            write_error(r, 408, "timeout", "the request did not come in time");
    }
}

/* ---- life ---- */

static int listen_on(struct admin *a, const struct admin_config *c, struct err_detail *detail)
{
    struct sockaddr_storage at, own;
    int size = sizeof(own);
    if (uv_ip4_addr(c->host, c->port, (struct sockaddr_in *)&at) != 0 &&
        uv_ip6_addr(c->host, c->port, (struct sockaddr_in6 *)&at) != 0)
        return err_set(detail, ROOM_E_INVALID, "cannot listen on '%.100s' for --admin: not an IPv4 or IPv6 address", c->host);
    int rc = uv_tcp_bind(&a->listener, (const struct sockaddr *)&at, 0);
    rc = rc ? rc : uv_listen((uv_stream_t *)&a->listener, BACKLOG, on_connection);
    rc = rc ? rc : uv_tcp_getsockname(&a->listener, (struct sockaddr *)&own, &size);
    if (rc)
        return err_set(detail, ROOM_E_IO, "cannot listen on '%.100s' port %d for --admin: %s", c->host, c->port,
                       uv_strerror(rc));
    a->port = ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port
                                              : ((struct sockaddr_in *)&own)->sin_port);
    return 0;
}

int admin_create(const struct admin_config *c, const struct admin_handler *handler, struct admin **out,
                 struct err_detail *detail)
{
    if (strlen(c->token) > ADMIN_TOKEN_MAX)
        return err_set(detail, ROOM_E_TOO_BIG, "the token of the admin port is longer than %d characters", ADMIN_TOKEN_MAX);
    struct admin *a = alloc_get(c->alloc, sizeof(*a));
    if (!a)
        return err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    a->alloc = c->alloc;
    a->loop = c->loop;
    a->handler = *handler;
    memcpy(a->token, c->token, strlen(c->token));
    if (uv_tcp_init(c->loop, &a->listener) != 0) {
        alloc_put(c->alloc, a, sizeof(*a));
        return err_set(detail, ROOM_E_IO, "cannot make a listener for --admin");
    }
    uv_timer_init(c->loop, &a->timer);
    a->listener.data = a->timer.data = a;
    a->handles = 2;
    uv_timer_start(&a->timer, on_timer, LOOK_MS, LOOK_MS);
    uv_unref((uv_handle_t *)&a->timer);
    int rc = listen_on(a, c, detail);
    if (rc)
        admin_destroy(a, NULL, NULL);
    else
        *out = a;
    return rc;
}

int admin_port(const struct admin *a)
{
    return a->port;
}

void admin_destroy(struct admin *a, void (*done)(void *arg), void *arg)
{
    if (!a) {
        if (done)
            done(arg);
        return;
    }
    a->destroying = true;
    a->done = done;
    a->done_arg = arg;
    uv_close((uv_handle_t *)&a->listener, on_own_closed);
    uv_close((uv_handle_t *)&a->timer, on_own_closed);
    for (struct request *r = a->requests; r; r = r->next)
        drop(r);
}
