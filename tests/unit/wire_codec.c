/*
 * Every message against its golden vectors, in both directions and both encodings. Oracles that share no code with ours:
 * schemac.py made the bytes, msgpack-c unpacks them, jansson parses our text.
 */
#include <criterion/criterion.h>
#include <jansson.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "wire/codec.h"
#include "wire/json_read.h"
#include "wire/json_write.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"
#include "wire/subject.h"
#include "wire/wire_gen.h"

enum { LIMIT = 1 << 20, STRUCT_MAX = 8192 };

static size_t from_hex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        out[i] = (uint8_t)byte;
    }
    return n;
}

static void same_json(json_t *expected, const struct buf *text, const char *name)
{
    json_error_t error;
    json_t *got = json_loadb((const char *)text->data, text->len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    cr_assert_not_null(got, "%s: jansson: %s in %.*s", name, error.text, (int)text->len, (const char *)text->data);
    cr_assert(json_equal(expected, got), "%s: got %.*s", name, (int)text->len, (const char *)text->data);
    json_decref(got);
}

static void same_msgpack(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len, const char *name)
{
    msgpack_unpacked left, right;
    size_t left_end = 0, right_end = 0;
    msgpack_unpacked_init(&left);
    msgpack_unpacked_init(&right);
    cr_assert_eq(msgpack_unpack_next(&left, (const char *)a, a_len, &left_end), MSGPACK_UNPACK_SUCCESS, "%s", name);
    cr_assert_eq(msgpack_unpack_next(&right, (const char *)b, b_len, &right_end), MSGPACK_UNPACK_SUCCESS, "%s", name);
    cr_assert(left_end == a_len && right_end == b_len, "%s", name);
    cr_assert(msgpack_object_equal(left.data, right.data), "%s", name);
    msgpack_unpacked_destroy(&left);
    msgpack_unpacked_destroy(&right);
}

static void one_vector(const struct codec_message *t, json_t *row)
{
    static _Alignas(16) uint8_t m[STRUCT_MAX], bytes[65536];
    const char *name = json_string_value(json_object_get(row, "name"));
    size_t len = from_hex(json_string_value(json_object_get(row, "msgpack")), bytes);
    json_t *json = json_object_get(row, "json");
    struct err_detail detail = {{0}};
    struct buf out, scratch;
    buf_init(&out, &alloc_libc, LIMIT);
    buf_init(&scratch, &alloc_libc, LIMIT);
    cr_assert_leq(t->size, sizeof(m));

    cr_assert_eq(codec_unpack(t, m, bytes, len, &detail), 0, "%s: %s", name, detail.text);
    cr_assert_eq(codec_pack(t, m, &out), 0, "%s", name);
    cr_assert(out.len == len && memcmp(out.data, bytes, len) == 0, "%s: other bytes", name);
    cr_assert_eq(wire_peek_op(bytes, len), t->op ? t->op : t->op_name[0] ? 0 : wire_peek_op(bytes, len));
    buf_reset(&out);
    cr_assert_eq(codec_to_json(t, m, &out), 0, "%s", name);
    same_json(json, &out, name);

    char *text = json_dumps(json, JSON_COMPACT);
    cr_assert_eq(codec_from_json(t, m, text, strlen(text), &scratch, &detail), 0, "%s: %s", name, detail.text);
    if (t->op)
        cr_assert_eq(wire_peek_op(scratch.data, scratch.len), t->op, "%s: op of the map", name);
    buf_reset(&out);
    cr_assert_eq(codec_pack(t, m, &out), 0, "%s", name);
    same_msgpack(out.data, out.len, bytes, len, name);
    free(text);
    buf_deinit(&out);
    buf_deinit(&scratch);
}

Test(wire_codec, golden_vectors)
{
    for (size_t i = 0; i < codec_message_count; i++) {
        char path[1024];
        snprintf(path, sizeof(path), "%s/vectors/%s.json", SCHEMA_DIR, codec_messages[i]->name);
        json_error_t error;
        json_t *rows = json_load_file(path, JSON_ALLOW_NUL, &error);
        cr_assert_not_null(rows, "%s: %s", path, error.text);
        cr_assert_geq(json_array_size(rows), 2);
        for (size_t k = 0; k < json_array_size(rows); k++)
            one_vector(codec_messages[i], json_array_get(rows, k));
        json_decref(rows);
    }
}

Test(wire_codec, the_generated_functions)
{
    struct wire_frame_hello in = {.v = 1, .last_seq = 0, .has_last_seq = true, .token = wire_str("t"), .can = {.count = 1}}, out;
    struct buf b, scratch;
    struct err_detail detail;
    buf_init(&b, &alloc_libc, LIMIT);
    buf_init(&scratch, &alloc_libc, LIMIT);
    in.can.items[0] = wire_str("relay");
    cr_assert_eq(wire_frame_hello_pack(&in, &b), ROOM_E_INVALID, "a required id is absent");
    cr_assert_eq(b.len, 0);
    cr_assert(id_set(&in.player, "alice"));
    cr_assert_eq(wire_frame_hello_pack(&in, &b), 0);
    cr_assert_eq(wire_frame_hello_unpack(&out, b.data, b.len, &detail), 0);
    cr_assert(out.v == 1 && out.has_last_seq && out.last_seq == 0 && !out.resume.data && out.can.count == 1);
    cr_assert_str_eq(out.player.s, "alice");
    cr_assert(wire_str_is(out.can.items[0], "relay") && wire_str_is(out.token, "t"));
    cr_assert_eq(wire_peek_op(b.data, b.len), WIRE_OP_HELLO);
    buf_reset(&b);
    cr_assert_eq(wire_frame_hello_to_json(&in, &b), 0);
    cr_assert_eq(wire_frame_hello_from_json(&out, (char *)b.data, b.len, &scratch, &detail), 0);
    cr_assert_str_eq(out.player.s, "alice");
    cr_assert_str_eq(wire_server_status_word(WIRE_SERVER_STATUS_DRAINING), "draining");
    cr_assert_str_eq(wire_server_status_word(0), "");
    cr_assert_str_eq(wire_op_name(WIRE_OP_LINK_BATCH), "link_batch");
    cr_assert_null(wire_op_name(63));
    buf_deinit(&b);
    buf_deinit(&scratch);
}

Test(wire_codec, refusals_say_field_and_problem)
{
    static const struct {
        const char *json;
        int code;
        const char *text;
    } rows[] = {
        {"{\"op\":\"send\",\"room\":1,\"n\":1}", ROOM_E_BAD_FRAME, "send: field 'data' is missing"},
        {"{\"op\":\"send\",\"room\":\"x\",\"n\":1,\"data\":1}", ROOM_E_BAD_FRAME, "send: field 'room' is not an integer"},
        {"{\"op\":\"send\",\"room\":1,\"room\":1,\"n\":1,\"data\":1}", ROOM_E_BAD_FRAME, "send: field 'room' occurs twice"},
        {"{\"op\":\"send\",\"room\":-1,\"n\":1,\"data\":1}", ROOM_E_BAD_FRAME, "send: field 'room' is -1"},
        {"{\"op\":\"send\",\"room\":1.5,\"n\":1,\"data\":1}", ROOM_E_BAD_FRAME, "send: field 'room' is not an integer"},
        {"{\"op\":\"sand\",\"room\":1,\"n\":1,\"data\":1}", ROOM_E_UNKNOWN_OP, "op is 'sand'"},
        {"{\"room\":1,\"n\":1,\"data\":1}", ROOM_E_BAD_FRAME, "the frame has no op"},
        {"[65,1,1,1]", ROOM_E_BAD_FRAME, "op is 'joined' where 'send'"},
        {"[60,1,1,1]", ROOM_E_UNKNOWN_OP, "op 60 is unknown"},
        {"[]", ROOM_E_BAD_FRAME, "the frame is empty"},
        {"7", ROOM_E_BAD_FRAME, "frame_send: neither"},
        {"[4,1,1,[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]", ROOM_E_TOO_BIG, "send: field 'data': values are nested"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct wire_frame_send m;
        struct err_detail detail = {{0}};
        struct buf scratch;
        buf_init(&scratch, &alloc_libc, LIMIT);
        int rc = wire_frame_send_from_json(&m, rows[i].json, strlen(rows[i].json), &scratch, &detail);
        cr_expect_eq(rc, rows[i].code, "%s: %d %s", rows[i].json, rc, detail.text);
        cr_expect(strncmp(detail.text, rows[i].text, strlen(rows[i].text)) == 0, "%s: %s", rows[i].json, detail.text);
        buf_deinit(&scratch);
    }
}

Test(wire_codec, extras_are_ignored_and_limits_hold)
{
    static const char extra[] = "{\"new\":{\"a\":[1]},\"op\":\"ping\",\"t\":3.0,\"x\":null}", more[] = "[9,4,\"new\",[1]]";
    static const char id[] = "{\"op\":\"hello\",\"v\":1,\"player\":\"all\"}";
    struct wire_frame_ping ping;
    struct wire_frame_hello hello;
    struct err_detail detail;
    struct buf scratch, tiny;
    buf_init(&scratch, &alloc_libc, LIMIT);
    buf_init(&tiny, &alloc_libc, 3);
    cr_assert_eq(wire_frame_ping_from_json(&ping, extra, sizeof(extra) - 1, &scratch, &detail), 0);
    cr_assert_eq(ping.t, 3);
    cr_assert_eq(wire_frame_ping_from_json(&ping, more, sizeof(more) - 1, &scratch, &detail), 0);
    cr_assert_eq(ping.t, 4);
    cr_assert_eq(wire_frame_hello_from_json(&hello, id, sizeof(id) - 1, &scratch, &detail), ROOM_E_BAD_FRAME);
    char reason[130];
    memset(reason, 'x', sizeof(reason));
    struct wire_frame_kicked kicked = {.reason = {reason, 129}};
    buf_reset(&scratch);
    cr_assert_eq(wire_frame_kicked_pack(&kicked, &scratch), ROOM_E_INVALID);
    kicked.reason.len = 128;
    cr_assert_eq(wire_frame_kicked_pack(&kicked, &tiny), ROOM_E_TOO_BIG);
    cr_assert_eq(tiny.len, 0);
    cr_assert_eq(wire_frame_kicked_to_json(&kicked, &scratch), 0);
    mp_write_array(&scratch, 0);
    buf_reset(&scratch);
    mp_write_array(&scratch, 2);
    mp_write_int(&scratch, WIRE_OP_KICKED);
    mp_write_str(&scratch, reason, 129);
    cr_assert_eq(wire_frame_kicked_unpack(&kicked, scratch.data, scratch.len, &detail), ROOM_E_TOO_BIG);
    cr_assert_str_eq(detail.text, "kicked: field 'reason' has more than 128 characters");
    buf_deinit(&scratch);
    buf_deinit(&tiny);
}

struct blob {
    struct wire_bytes data;
};

Test(wire_codec, bytes_have_a_form_in_both)
{
    static const struct codec_field fields[] = {{.name = "data", .name_len = 4, .kind = CODEC_BYTES, .required = true, .max = 4}};
    static const struct codec_message blob = {.name = "blob", .op_name = "", .fields = fields, .field_count = 1, .size = sizeof(struct blob)};
    static const char text[] = "{\"data\":{\"$bin\":\"AAECAw==\"}}", big[] = "{\"data\":{\"$bin\":\"AAECAwQ=\"}}";
    struct blob m;
    struct buf out, scratch;
    buf_init(&out, &alloc_libc, LIMIT);
    buf_init(&scratch, &alloc_libc, LIMIT);
    cr_assert_eq(codec_from_json(&blob, &m, text, sizeof(text) - 1, &scratch, NULL), 0);
    cr_assert(m.data.len == 4 && memcmp(m.data.data, "\0\1\2\3", 4) == 0);
    cr_assert_eq(codec_to_json(&blob, &m, &out), 0);
    cr_assert(out.len == sizeof(text) - 1 && memcmp(out.data, text, out.len) == 0);
    buf_reset(&out);
    cr_assert_eq(codec_pack(&blob, &m, &out), 0);
    cr_assert_eq(codec_unpack(&blob, &m, out.data, out.len, NULL), 0);
    cr_assert_eq(m.data.len, 4);
    cr_assert_eq(codec_from_json(&blob, &m, big, sizeof(big) - 1, &scratch, NULL), ROOM_E_TOO_BIG);
    buf_deinit(&out);
    buf_deinit(&scratch);
}

Test(wire_subject, built_and_parsed)
{
    char s[SUBJECT_SIZE];
    struct subject parsed;
    cr_assert_str_eq(subject_server(s, "node-1", "ctl"), "server.node-1.ctl");
    cr_assert(subject_parse(s, &parsed) && parsed.kind == SUBJECT_SERVER && !parsed.all);
    cr_assert_str_eq(parsed.id.s, "node-1");
    cr_assert_str_eq(parsed.verb, "ctl");
    cr_assert_str_eq(subject_room(s, "*", "created"), "room.*.created");
    cr_assert(!subject_parse(s, &parsed));
    cr_assert_str_eq(subject_player(s, "p", "push"), "player.p.push");
    cr_assert(subject_parse(s, &parsed) && parsed.kind == SUBJECT_PLAYER);
    cr_assert_str_eq(subject_room(s, "a.b", "send"), "");
    cr_assert(subject_parse(subject_server(s, "all", "broadcast"), &parsed) && parsed.all);
    static const char *const bad[] = {"", ".", "room", "room.x", "room..send", "room.x.", "room.x.a.b", "svc.x.y", "roo.x.y", "room.x y.z"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect(!subject_parse(bad[i], &parsed), "%s", bad[i]);
}
