/*
 * What comes from outside and means harm: announced sizes, nesting, cuts at each byte, seeded mutations, bad JSON. Memory
 * is counted: no input may cost more than a small multiple of its size.
 */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "wire/codec.h"
#include "wire/json_read.h"
#include "wire/json_write.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"
#include "wire/wire_gen.h"

enum { STRUCT_MAX = 8192, ROUNDS = 200 };

static _Alignas(16) uint8_t any_struct[STRUCT_MAX];

Test(wire_hostile, announced_sizes_and_malformed_msgpack)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
#define ROW(s) {s, sizeof(s) - 1}
        ROW(""), ROW("\xc1"), ROW("\xdd\xff\xff\xff\xff"), ROW("\xdf\xff\xff\xff\xff"), ROW("\xdb\xff\xff\xff\xff"),
        ROW("\xc6\xff\xff\xff\xff"), ROW("\xdf\x80\x00\x00\x00\xc0"), ROW("\xdc\xff\xff\x00"), ROW("\xde\x00\x01\xc0"),
        ROW("\xcf\x00"), ROW("\xa2\xc3\x28"), ROW("\xa3\xed\xa0\x80"), ROW("\xa2\xc0\x80"), ROW("\xa4\xf5\x80\x80\x80"),
        ROW("\xd4\x01\x00"), ROW("\xc7\x00\x01"), ROW("\x81\x01\x02"), ROW("\x91"), ROW("\x90\x90"), ROW("\x92\x01"),
#undef ROW
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err_detail detail = {{0}};
        cr_expect_neq(mp_check((const uint8_t *)rows[i].bytes, rows[i].len, WIRE_DEPTH_MAX, &detail), 0, "row %zu", i);
        cr_expect(detail.text[0] != 0, "row %zu has no text", i);
        for (size_t k = 0; k < codec_message_count; k++)
            cr_expect_neq(codec_unpack(codec_messages[k], any_struct, (const uint8_t *)rows[i].bytes, rows[i].len, NULL), 0);
        wire_peek_op((const uint8_t *)rows[i].bytes, rows[i].len);
    }
}

Test(wire_hostile, a_count_is_refused_at_its_head)
{
    static const char *const heads[] = {"\xdd\xff\xff\xff\xff\xc0", "\xdf\xff\xff\xff\xff\xc0", "\x92\xc0\0\0\0\0", "\x83\xc0\xc0\xc0\xc0\xc0"};
    static const size_t lens[] = {6, 6, 2, 6};
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        struct mp_read r;
        struct mp_token t;
        mp_read_init(&r, (const uint8_t *)heads[i], lens[i]);
        cr_expect_eq(mp_next(&r, &t, NULL), ROOM_E_BAD_FRAME, "row %zu", i);
        cr_expect_eq(r.at, (const uint8_t *)heads[i], "row %zu", i);
    }
}

Test(wire_hostile, nesting_ends_at_the_limit)
{
    uint8_t deep[1000];
    char text[1000];
    memset(deep, 0x91, sizeof(deep));
    memset(text, '[', sizeof(text));
    for (int depth = 1; depth < 100; depth++) {
        struct buf out;
        buf_init(&out, &alloc_libc, 4096);
        deep[depth] = 0xC0;
        cr_expect_eq(mp_check(deep, (size_t)depth + 1, WIRE_DEPTH_MAX, NULL), depth <= 32 ? 0 : ROOM_E_TOO_BIG);
        cr_expect_eq(json_write(deep, (size_t)depth + 1, &out, NULL), depth <= 32 ? 0 : ROOM_E_TOO_BIG);
        deep[depth] = 0x91;
        memset(text + depth, ']', (size_t)depth);
        buf_reset(&out);
        cr_expect_eq(json_read(text, 2 * (size_t)depth, &out, NULL), depth <= 32 ? 0 : ROOM_E_TOO_BIG);
        memset(text + depth, '[', (size_t)depth);
        buf_deinit(&out);
    }
}

static size_t example_of(const struct codec_message *t, uint8_t *bytes, char **text)
{
    char path[1024];
    snprintf(path, sizeof(path), "%s/vectors/%s.json", SCHEMA_DIR, t->name);
    json_t *rows = json_load_file(path, 0, NULL);
    cr_assert_not_null(rows);
    const char *hex = json_string_value(json_object_get(json_array_get(rows, 0), "msgpack"));
    size_t len = strlen(hex) / 2;
    for (size_t i = 0; i < len; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        bytes[i] = (uint8_t)byte;
    }
    *text = json_dumps(json_object_get(json_array_get(rows, 0), "json"), JSON_COMPACT);
    json_decref(rows);
    return len;
}

/* The bytes lie at the very end of a block of their own, so that the address sanitizer sees a read past them. */
static int try_bytes(const struct codec_message *t, const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len + !len);
    memcpy(copy, bytes, len);
    int rc = codec_unpack(t, any_struct, copy, len, NULL);
    wire_peek_op(copy, len);
    if (rc == 0) {
        struct buf out;
        buf_init(&out, &alloc_libc, 1 << 16);
        cr_assert_eq(codec_pack(t, any_struct, &out), 0, "%s: what was read cannot be written", t->name);
        buf_reset(&out);
        cr_assert_eq(codec_to_json(t, any_struct, &out), 0, "%s: what was read has no json", t->name);
        json_t *json = json_loadb((char *)out.data, out.len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
        cr_assert_not_null(json, "%s: %.*s", t->name, (int)out.len, (char *)out.data);
        json_decref(json);
        buf_deinit(&out);
    }
    free(copy);
    return rc;
}

static int try_text(const struct codec_message *t, const char *text, size_t len)
{
    struct alloc_budget budget;
    struct buf scratch;
    alloc_budget_init(&budget, &alloc_libc, 6 * len + 512); /* 3 bytes per byte, doubling */
    buf_init(&scratch, &budget.alloc, SIZE_MAX / 4);
    char *copy = malloc(len + !len);
    memcpy(copy, text, len);
    int rc = codec_from_json(t, any_struct, copy, len, &scratch, NULL);
    cr_assert(!scratch.failed, "%s: %zu bytes of text need more than %zu", t->name, len, budget.max_bytes);
    buf_deinit(&scratch);
    free(copy);
    return rc;
}

Test(wire_hostile, cut_at_each_byte_and_mutated)
{
    static uint8_t bytes[65536];
    struct rng rng;
    rng_init(&rng, 20250101);
    for (size_t i = 0; i < codec_message_count; i++) {
        const struct codec_message *t = codec_messages[i];
        char *text;
        size_t len = example_of(t, bytes, &text), text_len = strlen(text);
        for (size_t n = 0; n < len; n++)
            cr_assert_neq(try_bytes(t, bytes, n), 0, "%s cut at %zu", t->name, n);
        for (size_t n = 0; n < text_len; n++)
            cr_assert_neq(try_text(t, text, n), 0, "%s cut at %zu", t->name, n);
        for (int round = 0; round < ROUNDS; round++) {
            size_t at = rng_below(&rng, len), text_at = rng_below(&rng, text_len);
            uint8_t was = bytes[at];
            char text_was = text[text_at];
            bytes[at] = (uint8_t)rng_next(&rng);
            text[text_at] = round % 2 ? (char)rng_next(&rng) : "{}[]\",:\\0e.-"[rng_below(&rng, 12)];
            try_bytes(t, bytes, len);
            try_text(t, text, text_len);
            if (round % 4) {
                bytes[at] = was;
                text[text_at] = text_was;
            }
        }
        free(text);
    }
}

Test(wire_hostile, json_costs_a_small_multiple)
{
    static const char *const pieces[] = {"[],", "{},", "1e5,", "\"\",", "-9223372036854775808,", "{\"\":[]},", "\"\\u00e9\",", "5e1,"};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct alloc_budget budget;
        struct buf out, text;
        buf_init(&text, &alloc_libc, 1 << 20);
        buf_byte(&text, '[');
        for (int n = 0; n < 10000; n++)
            buf_text(&text, pieces[i]);
        buf_text(&text, "0]");
        alloc_budget_init(&budget, &alloc_libc, 8 * text.len);
        buf_init(&out, &budget.alloc, SIZE_MAX / 4);
        cr_expect_eq(json_read((char *)text.data, text.len, &out, NULL), 0, "%s", pieces[i]);
        cr_expect_lt(out.len, 3 * text.len, "%s", pieces[i]);
        cr_expect_eq(mp_check(out.data, out.len, WIRE_DEPTH_MAX, NULL), 0, "%s", pieces[i]);
        buf_deinit(&out);
        buf_deinit(&text);
    }
}

Test(wire_hostile, json_that_is_refused)
{
    static const char *const rows[] = {
        "", " ", "{", "[", "]", "[1,]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{1:2}", "01", "-", "+1", "1.", ".5", "1e", "1e+",
        "1e999", "nul", "truex", "\"", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\udc00\\udc00\"", "\"\\ud800\\u0041\"", "\"\x01\"",
        "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "1 2", "[1 2]", "{\"a\" 1}", "[1}", "{\"a\":1]", "'a'", "NaN", "Infinity",
        "{\"$bin\":\"A\"}", "{\"$bin\":\"AA=A\"}", "{\"$bin\":\"AB==\"}", "{\"$bin\":\"A*==\"}", "/**/1"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err_detail detail = {{0}};
        struct buf out;
        buf_init(&out, &alloc_libc, 4096);
        buf_byte(&out, 7);
        cr_expect_eq(json_read(rows[i], strlen(rows[i]), &out, &detail), ROOM_E_BAD_FRAME, "%s", rows[i]);
        cr_expect(out.len == 1 && detail.text[0], "%s", rows[i]);
        buf_deinit(&out);
    }
}

Test(wire_hostile, json_there_and_back)
{
    static const char *const rows[][2] = {
        {"0", "0"}, {"-1", "-1"}, {"9223372036854775807", "9223372036854775807"}, {"-9223372036854775808", "-9223372036854775808"},
        {"18446744073709551615", "18446744073709551615"}, {"18446744073709551616", "1.8446744073709552e+19"},
        {"0.1", "0.1"}, {"12.5e3", "12500.0"}, {"1E-7", "1e-07"}, {"-0.0", "-0.0"}, {"1.7976931348623157e308", "1.7976931348623157e+308"},
        {"0.30000000000000004", "0.30000000000000004"}, {" [ 1 , { } ] ", "[1,{}]"}, {"\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\""},
        {"\"\\u0000\\u001f\\n\\/\\\"\\\\\"", "\"\\u0000\\u001f\\n/\\\"\\\\\""}, {"{\"$bin\":\"\"}", "{\"$bin\":\"\"}"},
        {"[{\"$bin\":\"/+8=\"}]", "[{\"$bin\":\"/+8=\"}]"}, {"{\"$bin\":1}", "{\"$bin\":1}"}, {"{\"a\":{\"$bin\":\"AA==\"},\"b\":[[],{}]}", "{\"a\":{\"$bin\":\"AA==\"},\"b\":[[],{}]}"},
        {"[true,false,null]", "[true,false,null]"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err_detail detail = {{0}};
        struct buf out, text;
        buf_init(&out, &alloc_libc, 4096);
        buf_init(&text, &alloc_libc, 4096);
        cr_assert_eq(json_read(rows[i][0], strlen(rows[i][0]), &out, &detail), 0, "%s: %s", rows[i][0], detail.text);
        cr_assert_eq(json_write(out.data, out.len, &text, &detail), 0, "%s: %s", rows[i][0], detail.text);
        cr_expect(text.len == strlen(rows[i][1]) && memcmp(text.data, rows[i][1], text.len) == 0, "%s became %.*s", rows[i][0],
                  (int)text.len, (char *)text.data);
        buf_deinit(&out);
        buf_deinit(&text);
    }
}

Test(wire_hostile, what_json_cannot_say)
{
    struct buf out;
    buf_init(&out, &alloc_libc, 64);
    cr_expect_eq(json_write((const uint8_t *)"\x81\x01\x02", 3, &out, NULL), ROOM_E_BAD_FRAME);
    cr_expect_eq(json_write((const uint8_t *)"\xd4\x01\x00", 3, &out, NULL), ROOM_E_BAD_FRAME);
    cr_expect_eq(out.len, 0);
    cr_expect_eq(json_write((const uint8_t *)"\xcb\x7f\xf8\0\0\0\0\0\0", 9, &out, NULL), 0);
    cr_expect(out.len == 4 && memcmp(out.data, "null", 4) == 0);
    char big[100];
    memset(big, 1, sizeof(big));
    struct buf value;
    buf_init(&value, &alloc_libc, 200);
    mp_write_str(&value, big, sizeof(big));
    cr_expect_eq(json_write(value.data, value.len, &out, NULL), ROOM_E_TOO_BIG);
    cr_expect_eq(out.len, 4);
    buf_deinit(&value);
    buf_deinit(&out);
}
