/* See endpoints.h. */
#include "roomd/endpoints.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/time.h"
#include "roomd/address.h"
#include "wire/mp_write.h"
#include "wire/wire_gen.h"

enum { BODY_MAX = 4 * ADMIN_BODY_MAX };

/* What the path stands for, and the id in it. */
static const struct path {
    const char *before, *after; /* the id is between them; after NULL: there is no id */
    enum node_ask_kind kind;
    bool notify;
} paths[] = {
    {"/v1/players/", "/push", NODE_ASK_PUSH_PLAYER, false},
    {"/v1/rooms/", "/push", NODE_ASK_PUSH_ROOM, false},
    {"/v1/rooms/", "/send", NODE_ASK_SEND_ROOM, false},
    {"/v1/broadcast", NULL, NODE_ASK_PUSH_ALL, false},
    {"/internal/room/notify", NULL, NODE_ASK_SEND_ROOM, true},
};

static const struct path *find_path(struct http_text path, char id[ID_SIZE])
{
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        const struct path *p = &paths[i];
        size_t before = strlen(p->before), after = p->after ? strlen(p->after) : 0;
        size_t between = path.len - before - after;
        if (path.len < before + after || memcmp(path.s, p->before, before) != 0 || (!p->after && between) ||
            (after && memcmp(path.s + path.len - after, p->after, after) != 0))
            continue;
        if (p->after && (between == 0 || between > ID_MAX || memchr(path.s + before, '/', between)))
            continue;
        memcpy(id, path.s + before, between);
        id[between] = '\0';
        return p;
    }
    return NULL;
}

static void health(struct endpoints *e, uint64_t id, bool ready)
{
    static const char *const words[] = {"starting", "ready", "degraded", "draining"};
    static const char *const texts[] = {"not in the registry yet", "", "the other nodes, or their store, are not reached",
                                        "rooms and players leave this node"};
    enum node_health h = e->node ? node_get_health(e->node) : NODE_STARTING;
    char json[160];
    bool why = ready && *texts[h];
    int len = snprintf(json, sizeof(json), "{\"status\":\"%s\"%s%s%s}", ready ? words[h] : "alive",
                       why ? ",\"message\":\"" : "", why ? texts[h] : "", why ? "\"" : "");
    admin_answer(e->admin, id, ready && h != NODE_READY ? 503 : 200, json, (size_t)len);
}

/* The room gets a map. False: the body is none; `detail` says why. */
static bool notify(const char *body, size_t len, struct buf *out, struct id *room, struct err_detail *detail)
{
    struct wire_room_notify m;
    struct buf scratch, data;
    buf_init(&scratch, out->alloc, BODY_MAX);
    buf_init(&data, out->alloc, BODY_MAX);
    int code = wire_room_notify_from_json(&m, body, len, &scratch, detail);
    if (!code) {
        mp_write_map(&data, 1 + (m.user_id.len > 0) + (m.room_data.len > 0));
        mp_write_text(&data, "action");
        mp_write_str(&data, m.action.data, m.action.len);
        if (m.user_id.len) {
            mp_write_text(&data, "user_id");
            mp_write_str(&data, m.user_id.data, m.user_id.len);
        }
        if (m.room_data.len) {
            mp_write_text(&data, "room_data");
            mp_write_raw(&data, m.room_data);
        }
        struct wire_room_send send = {.data = {data.data, (uint32_t)data.len}};
        id_set(&send.from, "notify");
        *room = m.room_id;
        code = data.failed ? ROOM_E_NO_MEMORY : wire_room_send_to_json(&send, out);
    }
    buf_deinit(&scratch);
    buf_deinit(&data);
    return code == 0;
}

static int status_of(int code)
{
    switch (code) {
    case ROOM_E_INVALID:
    case ROOM_E_BAD_FRAME:
        return 400;
    case ROOM_E_TOO_BIG:
        return 413;
    case ROOM_E_FULL:
    case ROOM_E_RATE_LIMITED:
        return 429;
    case ROOM_E_NOT_FOUND:
    case ROOM_E_NO_RESPONDERS:
        return 404;
    case ROOM_E_UNSUPPORTED:
        return 422;
    case ROOM_E_UNKNOWN_RESULT:
        return 504;
    case ROOM_E_INTERNAL:
        return 500;
    case ROOM_E_UNAVAILABLE:
    case ROOM_E_NO_MEMORY:
        return 503;
    default:
        return 409;
    }
}

static void refuse(struct endpoints *e, uint64_t id, int code, const char *text)
{
    admin_refuse(e->admin, id, status_of(code), room_error_name(code), text && *text ? text : room_error_text(code));
}

static void ask(struct endpoints *e, uint64_t id, const struct path *p, const char *of, const struct admin_request *r)
{
    struct err_detail detail = {{0}};
    struct id room = {{0}};
    struct buf body;
    int code = 0;
    buf_init(&body, &alloc_libc, BODY_MAX);
    bool good = p->notify ? notify(r->body, r->len, &body, &room, &detail) : buf_write(&body, r->body, r->len);
    if (!good)
        code = p->notify ? ROOM_E_BAD_FRAME : ROOM_E_NO_MEMORY;
    else
        code = node_ask(e->node, id, p->kind, p->notify ? room.s : p->after ? of : NULL, (const char *)body.data, body.len,
                        time_mono_now(), time_wall_now(), &detail);
    if (code)
        refuse(e, id, code, detail.text);
    buf_deinit(&body);
}

static void on_request(void *arg, uint64_t id, const struct admin_request *r)
{
    struct endpoints *e = arg;
    char of[ID_SIZE];
    bool get = http_is(r->method, "GET");
    if (http_is(r->path, "/healthz") || http_is(r->path, "/readyz")) {
        health(e, id, http_is(r->path, "/readyz"));
        return;
    }
    if (!r->allowed) {
        admin_refuse(e->admin, id, 401, "unauthorized", "send the token of --admin-token-file: Authorization: Bearer TOKEN");
        return;
    }
    const struct path *p = find_path(r->path, of);
    if (!p)
        admin_refuse(e->admin, id, 404, "not_found",
                     "paths: GET /healthz, /readyz; POST /v1/players/ID/push, /v1/rooms/ID/push, /v1/rooms/ID/send, "
                     "/v1/broadcast, /internal/room/notify");
    else if (get)
        admin_refuse(e->admin, id, 405, "unknown_op", "this path takes POST");
    else if (!e->node)
        admin_refuse(e->admin, id, 503, "unavailable", "the node starts: try again in a second");
    else if (node_get_health(e->node) == NODE_DRAINING)
        admin_refuse(e->admin, id, 503, "draining", "this node is about to leave: ask another one");
    else
        ask(e, id, p, of, r);
}

/* The answer is handed on as it is; what it says decides the status. */
static int answer_status(const char *json, size_t len)
{
    struct wire_push_reply push;
    struct wire_room_send_reply send;
    struct wire_str error = {NULL, 0};
    struct buf scratch;
    int status = 502;
    buf_init(&scratch, &alloc_libc, BODY_MAX);
    if (wire_push_reply_from_json(&push, json, len, &scratch, NULL) == 0) {
        status = push.status == WIRE_PUSH_REPLY_STATUS_KEPT ? 202 : push.status == WIRE_PUSH_REPLY_STATUS_UNKNOWN ? 504 : 200;
        if (push.status == WIRE_PUSH_REPLY_STATUS_REFUSED)
            error = push.error;
    } else if (buf_reset(&scratch), wire_room_send_reply_from_json(&send, json, len, &scratch, NULL) == 0) {
        status = 200;
        if (!send.ok)
            error = send.error;
    }
    if (error.data) {
        char word[33];
        snprintf(word, sizeof(word), "%.*s", (int)(error.len < 32 ? error.len : 32), error.data);
        status = status_of(room_error_from_name(word));
    }
    buf_deinit(&scratch);
    return status;
}

void endpoints_asked(struct endpoints *e, uint64_t ticket, int code, const char *json, size_t len)
{
    if (!code)
        admin_answer(e->admin, ticket, answer_status(json, len), json, len);
    else
        refuse(e, ticket, code,
               code == ROOM_E_NO_RESPONDERS ? "nobody owns the room now: after a failover ask again; if it has ended, it is gone"
               : code == ROOM_E_UNKNOWN_RESULT ? "no answer in time: it may have been done or not" : NULL);
}

/* The first line, without what is around it. */
static int read_token(const char *path, char out[ADMIN_TOKEN_MAX + 2], struct err_detail *detail)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return err_set(detail, ROOM_E_NOT_FOUND, "cannot read --admin-token-file '%.200s': %s", path, strerror(errno));
    size_t len = fread(out, 1, ADMIN_TOKEN_MAX + 1, f);
    fclose(f);
    out[len] = '\0';
    while (len && strchr(" \t\r\n", out[len - 1]))
        out[--len] = '\0';
    for (const char *p = out; *p; p++)
        if (*p <= ' ' || *p > '~')
            return err_set(detail, ROOM_E_INVALID, "--admin-token-file '%.200s' has more than one word: write the token alone",
                           path);
    if (len < 16 || len > ADMIN_TOKEN_MAX)
        return err_set(detail, ROOM_E_INVALID,
                       "the token in --admin-token-file '%.200s' has %zu characters, wanted 16 to %d: try `openssl rand -hex 32`",
                       path, len, ADMIN_TOKEN_MAX);
    return 0;
}

int endpoints_open(struct endpoints *e, uv_loop_t *loop, const struct options *o, struct err_detail *detail)
{
    char token[ADMIN_TOKEN_MAX + 2] = "";
    int port;
    if (!o->admin[0])
        return o->admin_token_file[0] ? err_set(detail, ROOM_E_INVALID, "--admin-token-file is of no use without --admin") : 0;
    int rc = address_split("admin", o->admin, e->host, sizeof(e->host), &port, detail);
    if (!rc && o->admin_token_file[0])
        rc = read_token(o->admin_token_file, token, detail);
    if (rc)
        return rc;
    if (!token[0] && address_from_elsewhere(e->host))
        return err_set(detail, ROOM_E_INVALID,
                       "--admin %.64s can be reached from elsewhere, and anybody could push: give --admin-token-file FILE", e->host);
    struct admin_config c = {.loop = loop, .alloc = &alloc_libc, .host = e->host, .port = port, .token = token};
    struct admin_handler h = {e, on_request};
    return admin_create(&c, &h, &e->admin, detail);
}

void endpoints_close(struct endpoints *e, void (*done)(void *arg), void *arg)
{
    struct admin *a = e->admin;
    e->admin = NULL;
    e->node = NULL;
    admin_destroy(a, done, arg);
}
