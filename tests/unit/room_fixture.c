/* See room_fixture.h. */
#include "room_fixture.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "wire/mp_read.h"
#include "wire/mp_write.h"

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

static void on_message(void *arg, const struct room *room, uint64_t who, const char *player, const void *data, size_t len)
{
    struct fixture *f = arg;
    cr_assert(host_room_who(room, player) == who);
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

static void on_left(void *arg, const struct room *room, uint64_t who, const char *player, const char *reason)
{
    struct fixture *f = arg;
    cr_assert(host_room_who(room, player) != who);
    cr_assert(host_find(f->host, host_room_id(room)) == room);
    buf_printf(&f->said, "left %llu %s\n", (unsigned long long)who, reason);
}

static void on_changed(void *arg, const struct room *room)
{
    cr_assert(host_room_seats(room) <= host_room_max_players(room));
}

static void on_ended(void *arg, const char *room_id, const char *reason)
{
    struct fixture *f = arg;
    cr_assert(host_find(f->host, room_id) == NULL);
    buf_printf(&f->said, "ended %s %s\n", room_id, reason);
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
    static const struct host_out out = {on_message, on_broadcast, on_left, on_changed, on_ended};
    memset(f, 0, sizeof(*f));
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

int fixture_join(struct fixture *f, const char *id, const char *player, uint64_t who, const char *ticket)
{
    struct host_join j = {.id = id, .player = player, .ticket = ticket, .who = who};
    buf_reset(&f->reply);
    return host_join(f->host, &j, f->now, &f->reply);
}

int fixture_join_with(struct fixture *f, const char *id, const char *player, uint64_t who, const char *json)
{
    struct buf options;
    buf_init(&options, &alloc_libc, 1 << 22);
    fixture_pack(&options, json);
    struct host_join j = {.id = id, .player = player, .who = who, .options = options.data, .options_len = options.len};
    buf_reset(&f->reply);
    int rc = host_join(f->host, &j, f->now, &f->reply);
    buf_deinit(&options);
    return rc;
}

int fixture_send(struct fixture *f, const char *id, uint64_t who, const char *json)
{
    struct buf message;
    buf_init(&message, &alloc_libc, 1 << 22);
    fixture_pack(&message, json);
    buf_reset(&f->reply);
    int rc = host_message(f->host, id, who, message.data, message.len, f->now, &f->reply);
    buf_deinit(&message);
    return rc;
}
