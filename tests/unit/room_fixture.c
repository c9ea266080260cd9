/* See room_fixture.h. */
#include "room_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/mp_read.h"
#include "wire/mp_write.h"

enum { NOT_ANSWERED = 1 };

static const char *pack_value(struct buf *out, const char *s);

static const char *pack_many(struct buf *out, const char *s, char end)
{
    struct buf items;
    uint32_t count = 0;
    buf_init(&items, &alloc_libc, 1 << 22);
    for (s++; *s != end; count++) {
        s = pack_value(&items, s);
        s += *s == ',' || *s == ':';
    }
    if (end == '}')
        mp_write_map(out, count / 2);
    else
        mp_write_array(out, count);
    buf_write(out, items.data, items.len);
    buf_deinit(&items);
    return s + 1;
}

static const char *pack_value(struct buf *out, const char *s)
{
    char *end;
    if (*s == '{')
        return pack_many(out, s, '}');
    if (*s == '[')
        return pack_many(out, s, ']');
    if (*s == '"') {
        const char *close = strchr(s + 1, '"');
        mp_write_str(out, s + 1, (size_t)(close - s - 1));
        return close + 1;
    }
    if (*s == 't' || *s == 'f') {
        mp_write_bool(out, *s == 't');
        return s + (*s == 't' ? 4 : 5);
    }
    if (*s == 'n') {
        mp_write_nil(out);
        return s + 4;
    }
    mp_write_int(out, strtoll(s, &end, 10));
    cr_assert(end != s, "not a value: %s", s);
    return end;
}

void fixture_pack(struct buf *out, const char *json)
{
    const char *end = pack_value(out, json);
    cr_assert(*end == '\0' && !out->failed);
}

static void show(struct buf *out, struct mp_read *r)
{
    struct mp_token t;
    cr_assert(mp_next(r, &t, NULL) == 0);
    switch (t.type) {
    case MP_NIL:
        buf_text(out, "null");
        break;
    case MP_BOOL:
        buf_text(out, t.b ? "true" : "false");
        break;
    case MP_INT:
        buf_printf(out, "%lld", (long long)t.i);
        break;
    case MP_UINT:
        buf_printf(out, "%llu", (unsigned long long)t.u);
        break;
    case MP_STR:
        buf_printf(out, "\"%.*s\"", (int)t.len, (const char *)t.data);
        break;
    case MP_ARRAY:
    case MP_MAP:
        buf_text(out, t.type == MP_MAP ? "{" : "[");
        for (uint32_t i = 0, n = t.type == MP_MAP ? 2 * t.count : t.count; i < n; i++) {
            if (i)
                buf_text(out, t.type == MP_MAP && i % 2 ? ":" : ",");
            show(out, r);
        }
        buf_text(out, t.type == MP_MAP ? "}" : "]");
        break;
    default:
        buf_text(out, "?");
    }
}

static void show_all(struct buf *out, const void *data, size_t len)
{
    struct mp_read r;
    if (mp_check(data, len, WIRE_VALUE_DEPTH, NULL) != 0) {
        buf_printf(out, "<%zu bytes>", len);
        return;
    }
    mp_read_init(&r, data, len);
    show(out, &r);
}

static bool knows(const struct room *room, uint64_t who, const char *player)
{
    const void *cursor = NULL;
    struct host_member m;
    while (host_room_member(room, &cursor, &m))
        if (m.who == who)
            return strcmp(m.player, player) == 0;
    return false;
}

static void on_message(void *arg, const struct room *room, uint64_t who, const char *player, const void *data, size_t len)
{
    struct fixture *f = arg;
    cr_assert(knows(room, who, player));
    buf_printf(&f->said, "msg %llu ", (unsigned long long)who);
    show_all(&f->said, data, len);
    buf_text(&f->said, "\n");
}

static void on_broadcast(void *arg, const struct room *room, uint64_t except, const char *from, const void *data,
                         size_t len)
{
    struct fixture *f = arg;
    buf_printf(&f->said, "all -%llu %s ", (unsigned long long)except, from ? from : "-");
    show_all(&f->said, data, len);
    buf_text(&f->said, "\n");
}

/* Keeps the answer that fixture_join() or fixture_send() waits for; what nobody waits for is a line of text. */
static bool wanted(struct fixture *f, uint64_t who, int code, const void *data, size_t len)
{
    if (f->waiting != who)
        return false;
    cr_assert_eq(f->answer, NOT_ANSWERED, "answered twice");
    f->answer = code;
    buf_reset(&f->reply);
    cr_assert(len == 0 || buf_write(&f->reply, data, len));
    return true;
}

static void on_joined(void *arg, const struct room *room, uint64_t who, const char *player, const void *state, size_t len)
{
    struct fixture *f = arg;
    cr_assert(knows(room, who, player));
    if (wanted(f, who, 0, state, len))
        return;
    buf_printf(&f->said, "joined %llu ", (unsigned long long)who);
    show_all(&f->said, state, len);
    buf_text(&f->said, "\n");
}

static void on_sent(void *arg, const struct room *room, uint64_t who, const char *player, int64_t n, int code,
                    const void *result, size_t len)
{
    struct fixture *f = arg;
    if (wanted(f, who, code, result, len))
        return;
    buf_printf(&f->said, "sent %llu %lld %s ", (unsigned long long)who, (long long)n, room_error_name(code));
    show_all(&f->said, result, len);
    buf_text(&f->said, "\n");
}

static void on_attached(void *arg, const struct room *room, uint64_t who, const char *player, const void *state, size_t len)
{
    struct fixture *f = arg;
    cr_assert(knows(room, who, player));
    buf_printf(&f->said, "attached %llu ", (unsigned long long)who);
    show_all(&f->said, state, len);
    buf_text(&f->said, "\n");
}

static void on_image(void *arg, const struct room *room, uint64_t version, uint64_t position, const void *data, size_t len)
{
    struct fixture *f = arg;
    cr_assert_gt(version, 0);
    f->version = version;
    f->position = position;
    f->images++;
    buf_reset(&f->image);
    cr_assert(buf_write(&f->image, data, len));
}

static void on_append(void *arg, const struct room *room, uint64_t number, const void *data, size_t len)
{
    struct fixture *f = arg;
    struct fixture_journal *j = f->journal;
    cr_assert_eq(j->number, 0, "one batch at a time");
    id_set(&j->room, host_room_id(room));
    j->epoch = host_room_epoch(room);
    j->number = number;
    buf_reset(&j->flight);
    cr_assert(buf_write(&j->flight, data, len));
}

static void on_left(void *arg, const struct room *room, uint64_t who, const char *player, const char *reason)
{
    struct fixture *f = arg;
    cr_assert(!who || host_room_who(room, player) != who);
    cr_assert(host_find(f->host, host_room_id(room)) == room);
    if (f->waiting == who && f->answer == NOT_ANSWERED)
        f->answer = ROOM_E_CANCELLED;
    buf_printf(&f->said, "left %llu %s\n", (unsigned long long)who, reason);
}

static void on_changed(void *arg, const struct room *room)
{
    struct fixture *f = arg;
    f->changes++;
    cr_assert(host_room_seats(room) <= host_room_max_players(room));
}

static void on_ended(void *arg, const char *room_id, const char *reason)
{
    struct fixture *f = arg;
    cr_assert(host_find(f->host, room_id) == NULL);
    buf_printf(&f->said, "ended %s %s\n", room_id, reason);
}

static void on_answered(void *arg, const struct room *room, const char *reply, int code, const void *result, size_t len)
{
    struct fixture *f = arg;
    buf_printf(&f->said, "answered %s %s ", reply, room_error_name(code));
    show_all(&f->said, result, len);
    buf_text(&f->said, "\n");
}

static void on_tell(void *arg, const struct room *room, const char *other, uint64_t request, const void *data, size_t len)
{
    struct fixture *f = arg;
    buf_printf(&f->said, "tell %s %llu ", other, (unsigned long long)request);
    show_all(&f->said, data, len);
    buf_text(&f->said, "\n");
}

static void on_ask(void *arg, const struct room *room, const struct host_ask *ask)
{
    struct fixture *f = arg;
    static const char *const kinds[] = {"player", "publish", "service", "shared"};
    buf_printf(&f->said, "%s %s %llu ", kinds[ask->kind], ask->target, (unsigned long long)ask->request);
    if (ask->number)
        buf_printf(&f->said, "#%llu.%llu verb %d limit %lld expect %lld by %lld ", (unsigned long long)ask->epoch,
                   (unsigned long long)ask->number, ask->verb, (long long)ask->limit_ms, (long long)ask->expect,
                   (long long)ask->by);
    show_all(&f->said, ask->data, ask->len);
    buf_text(&f->said, ask->again ? " again\n" : "\n");
}

static void on_topics(void *arg, const struct room *room)
{
    struct fixture *f = arg;
    buf_text(&f->said, "topics");
    for (const char *t = host_room_topic(room, NULL); t; t = host_room_topic(room, t))
        buf_printf(&f->said, " %s", t);
    buf_text(&f->said, "\n");
}

static void on_lock(void *arg, const struct room *room, const struct host_lock_ask *ask)
{
    struct fixture *f = arg;
    buf_printf(&f->said, "lock %d %s ttl=%lld wait=%lld token=%llu request=%llu\n", ask->verb, ask->name.s,
               (long long)ask->ttl_ms, (long long)ask->wait_ms, (unsigned long long)ask->token,
               (unsigned long long)ask->request);
}

static void repeatable(void *arg, void *out, size_t len)
{
    struct fixture *f = arg;
    memset(out, 0, len);
    f->counter++;
    memcpy(out, &f->counter, sizeof(f->counter));
}

static int64_t cpu(void *arg)
{
    struct fixture *f = arg;
    return f->cpu_us;
}

void fixture_open(struct fixture *f, void (*change)(struct host_config *config))
{
    static const struct host_out out = {.message = on_message, .broadcast = on_broadcast, .joined = on_joined,
                                        .sent = on_sent, .attached = on_attached, .left = on_left,
                                        .changed = on_changed, .ended = on_ended, .image = on_image, .append = on_append,
                                        .answered = on_answered, .tell = on_tell, .lock = on_lock,
                                        .ask = on_ask, .topics = on_topics};
    memset(f, 0, sizeof(*f));
    f->journal = calloc(1, sizeof(*f->journal));
    buf_init(&f->journal->bytes, &alloc_libc, SIZE_MAX);
    buf_init(&f->journal->flight, &alloc_libc, SIZE_MAX);
    buf_init(&f->image, &alloc_libc, SIZE_MAX);
    alloc_budget_init(&f->memory, &alloc_libc, SIZE_MAX);
    buf_init(&f->said, &alloc_libc, 1 << 22);
    buf_init(&f->reply, &alloc_libc, 1 << 22);
    f->now.us = 1000000;
    f->types = types_create(&alloc_libc);
    struct host_config c = {.alloc = &f->memory.alloc,
                            .types = f->types,
                            .out = &out,
                            .out_arg = f,
                            .seat_ttl_ms = 1000,
                            .empty_ms = 5000,
                            .fill_random = repeatable,
                            .random_arg = f,
                            .seed = 7,
                            .cpu_us = cpu,
                            .cpu_arg = f};
    if (change)
        change(&c);
    f->host = host_create(&c);
    cr_assert(f->host);
}

void fixture_close(struct fixture *f)
{
    host_destroy(f->host);
    cr_assert(f->memory.used_bytes == 0, "%zu bytes were not freed", f->memory.used_bytes);
    types_destroy(f->types);
    buf_deinit(&f->said);
    buf_deinit(&f->reply);
    buf_deinit(&f->image);
    buf_deinit(&f->journal->bytes);
    buf_deinit(&f->journal->flight);
    free(f->journal);
}

const char *fixture_said(struct fixture *f)
{
    buf_byte(&f->said, 0);
    f->said.len = 0;
    return (const char *)f->said.data;
}

const char *fixture_reply(struct fixture *f)
{
    static char text[65536];
    struct buf out = {.data = (uint8_t *)text, .cap = sizeof(text), .max = sizeof(text), .alloc = &alloc_libc};
    text[0] = '\0';
    if (f->reply.len) {
        show_all(&out, f->reply.data, f->reply.len);
        buf_byte(&out, 0);
    }
    return text;
}

int fixture_start(struct fixture *f, const char *id, const char *type)
{
    struct host_start s = {.id = id, .type = type, .epoch = 1};
    return host_start(f->host, &s, f->now, NULL);
}

static void await(struct fixture *f, uint64_t who)
{
    buf_reset(&f->reply);
    f->waiting = who;
    f->answer = NOT_ANSWERED;
}

static int answered(struct fixture *f, int rc)
{
    cr_assert_eq(rc == 0, f->answer != NOT_ANSWERED, "said at once or through host_out, never both: %d %d", rc, f->answer);
    f->waiting = 0;
    return rc ? rc : f->answer;
}

static int join(struct fixture *f, struct host_join *j)
{
    char session[80];
    snprintf(session, sizeof(session), "s-%s", j->player);
    j->session = id_valid(session) ? session : NULL;
    await(f, j->who);
    return answered(f, host_join(f->host, j, f->now));
}

int fixture_join(struct fixture *f, const char *id, const char *player, uint64_t who, const char *ticket)
{
    struct host_join j = {.id = id, .player = player, .ticket = ticket, .who = who};
    return join(f, &j);
}

int fixture_join_with(struct fixture *f, const char *id, const char *player, uint64_t who, const char *json)
{
    struct buf options;
    buf_init(&options, &alloc_libc, 1 << 22);
    fixture_pack(&options, json);
    struct host_join j = {.id = id, .player = player, .who = who, .options = options.data, .options_len = options.len};
    int rc = join(f, &j);
    buf_deinit(&options);
    return rc;
}

int fixture_send_raw(struct fixture *f, const char *id, uint64_t who, int64_t n, const void *data, size_t len)
{
    await(f, who);
    return answered(f, host_message(f->host, id, who, n, data, len, f->now));
}

int fixture_send_n(struct fixture *f, const char *id, uint64_t who, int64_t n, const char *json)
{
    struct buf message;
    buf_init(&message, &alloc_libc, 1 << 22);
    fixture_pack(&message, json);
    int rc = fixture_send_raw(f, id, who, n, message.data, message.len);
    buf_deinit(&message);
    return rc;
}

int fixture_send(struct fixture *f, const char *id, uint64_t who, const char *json)
{
    return fixture_send_n(f, id, who, ++f->last_n, json);
}

void fixture_append(struct fixture *f)
{
    struct fixture_journal *j = f->journal;
    struct fixture_batch *b = &j->batches[j->count++];
    cr_assert(j->number && j->count <= sizeof(j->batches) / sizeof(j->batches[0]));
    *b = (struct fixture_batch){++j->sequence, j->bytes.len, j->flight.len};
    cr_assert(buf_write(&j->bytes, j->flight.data, j->flight.len));
    uint64_t number = j->number;
    j->number = 0;
    host_appended(f->host, j->room.s, j->epoch, number, b->sequence, f->now);
}

void fixture_append_all(struct fixture *f)
{
    while (f->journal->number)
        fixture_append(f);
}

int fixture_take_over(struct fixture *f, const char *id, uint64_t epoch, const struct fixture *from)
{
    const struct fixture_journal *j = from->journal;
    struct host_restore r = {.id = id, .epoch = epoch, .image = from->image.len ? from->image.data : NULL,
                             .image_len = from->image.len, .position = from->position};
    struct err_detail why;
    int rc = host_restore(f->host, &r, f->now, &why);
    for (size_t i = 0; i < j->count && rc == 0; i++)
        if (j->batches[i].sequence > from->position)
            rc = host_replay(f->host, id, j->batches[i].sequence, j->bytes.data + j->batches[i].at, j->batches[i].len);
    return rc ? rc : host_resume(f->host, id, f->now);
}
