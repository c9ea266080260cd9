/* One key of shared data: what each operation answers and leaves, when it is over, and that a repeat is known. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "node/shared_entry.h"
#include "wire/json_write.h"
#include "wire/mp_write.h"

static struct wall now = {1000000};
static char said[70000];

static void *opened(void)
{
    static struct shared_entry e;
    shared_entry_init(&e, &alloc_libc);
    return &e;
}

/* What comes of it, as "CODE RESULT". `by` "": each time somebody else. */
static const char *apply(struct shared_entry *e, struct shared_op op, const char *by, uint64_t number)
{
    static unsigned strangers;
    char name[32];
    struct buf result, json;
    snprintf(name, sizeof(name), "stranger-%u", ++strangers);
    cr_assert(id_set(&op.by, by[0] ? by : name));
    op.epoch = op.epoch ? op.epoch : 1;
    op.number = number;
    buf_init(&result, &alloc_libc, 100000);
    buf_init(&json, &alloc_libc, 100000);
    int code = shared_apply(e, &op, now, &result);
    if (result.len)
        cr_assert_eq(json_write(result.data, result.len, &json, NULL), 0);
    snprintf(said, sizeof(said), "%s %.*s", code == SHARED_LATER ? "later" : room_error_name(code), (int)json.len,
             json.len ? (const char *)json.data : "");
    buf_deinit(&result);
    buf_deinit(&json);
    return said;
}

static struct shared_op get(void)
{
    return (struct shared_op){.verb = HOST_SHARED_GET};
}

static struct shared_op set(const char *raw, uint64_t expect)
{
    return (struct shared_op){.verb = HOST_SHARED_SET, .expect = expect, .data = raw, .len = strlen(raw)};
}

static struct shared_op add(int64_t by)
{
    return (struct shared_op){.verb = HOST_SHARED_ADD, .add = by};
}

static struct shared_op member(enum host_shared_verb verb, const char *name)
{
    return (struct shared_op){.verb = verb, .data = name, .len = strlen(name)};
}

static struct shared_op del(uint64_t expect)
{
    return (struct shared_op){.verb = HOST_SHARED_DELETE, .expect = expect};
}

/* Written and read again, under that revision. */
static void again(struct shared_entry *e, uint64_t revision)
{
    struct buf json, scratch;
    buf_init(&json, &alloc_libc, 1 << 20);
    buf_init(&scratch, &alloc_libc, 1 << 20);
    cr_assert_eq(shared_entry_write(e, "n1", now, &scratch, &json), 0);
    cr_assert(shared_entry_read(e, json.data, json.len, revision, &scratch));
    cr_assert(!e->foreign && e->changes == 0 && e->revision == revision, "%.*s", (int)json.len, (const char *)json.data);
    buf_deinit(&json);
    buf_deinit(&scratch);
}

Test(node_shared_entry, values)
{
    struct shared_entry *e = opened();
    cr_assert_str_eq(apply(e, get(), "", 1), "not_found ");
    cr_assert_str_eq(apply(e, del(ROOM_SHARED_ANY), "", 1), "not_found ");
    cr_assert_str_eq(apply(e, set("\xa1x", 0), "", 1), "ok ");
    cr_assert_str_eq(apply(e, set("\xa1y", 0), "", 1), "exists ");
    cr_assert_str_eq(apply(e, set("\xa1y", 5), "", 1), "later ", "its revision is not known before it is written");
    cr_assert_str_eq(apply(e, get(), "", 1), "later ");
    again(e, 5);
    cr_assert_str_eq(apply(e, get(), "", 1), "ok \"x\"");
    cr_assert_str_eq(apply(e, set("\xa1y", 4), "", 1), "conflict ");
    cr_assert_str_eq(apply(e, del(4), "", 1), "conflict ");
    cr_assert_eq(e->changes, 0);
    cr_assert_str_eq(apply(e, set("\xa1y", 5), "", 1), "ok ");
    again(e, 6);
    cr_assert_str_eq(apply(e, set("\xc0", ROOM_SHARED_ANY), "", 1), "invalid ", "nil is no value");
    cr_assert_str_eq(apply(e, set("\xc1", ROOM_SHARED_ANY), "", 1), "invalid ");
    cr_assert_str_eq(apply(e, del(6), "", 1), "ok ");
    again(e, 7);
    cr_assert_str_eq(apply(e, get(), "", 1), "not_found ");
    cr_assert_str_eq(apply(e, set("\x07", 7), "", 1), "conflict ", "nothing is there to have a revision");
    cr_assert_str_eq(apply(e, set("\x07", 0), "", 1), "ok ");
    static char big[ROOM_ASK_DATA_MAX + 1] = "\xdb";
    struct shared_op much = {.verb = HOST_SHARED_SET, .expect = ROOM_SHARED_ANY, .data = big, .len = sizeof(big)};
    cr_assert_str_eq(apply(e, much, "", 1), "too_big ");
    shared_entry_deinit(e);
}

Test(node_shared_entry, counters)
{
    struct shared_entry *e = opened();
    cr_assert_str_eq(apply(e, add(5), "", 1), "ok 5");
    cr_assert_str_eq(apply(e, add(-7), "", 1), "ok -2");
    again(e, 2);
    cr_assert_str_eq(apply(e, add(INT64_MIN + 2), "", 1), "ok -9223372036854775808");
    cr_assert_str_eq(apply(e, add(-1), "", 1), "too_big ");
    again(e, 3);
    cr_assert_str_eq(apply(e, get(), "", 1), "ok -9223372036854775808");
    cr_assert_str_eq(apply(e, set("\xa1x", ROOM_SHARED_ANY), "", 1), "ok ");
    cr_assert_str_eq(apply(e, add(1), "", 1), "invalid ");
    shared_entry_deinit(e);
}

Test(node_shared_entry, sets)
{
    struct shared_entry *e = opened();
    cr_assert_str_eq(apply(e, member(HOST_SHARED_REMOVE, "ann"), "", 1), "ok false");
    cr_assert_eq(e->changes, 0);
    cr_assert_str_eq(apply(e, member(HOST_SHARED_INSERT, "ann"), "", 1), "ok true");
    cr_assert_str_eq(apply(e, member(HOST_SHARED_INSERT, "bob"), "", 1), "ok true");
    cr_assert_str_eq(apply(e, member(HOST_SHARED_INSERT, "cat"), "", 1), "ok true");
    again(e, 3);
    cr_assert_str_eq(apply(e, member(HOST_SHARED_INSERT, "bob"), "", 1), "ok false");
    cr_assert_eq(e->changes, 0);
    cr_assert_str_eq(apply(e, member(HOST_SHARED_REMOVE, "bob"), "", 1), "ok true");
    again(e, 4);
    cr_assert_str_eq(apply(e, get(), "", 1), "ok [\"ann\",\"cat\"]");
    cr_assert_str_eq(apply(e, member(HOST_SHARED_INSERT, "\xff"), "", 1), "invalid ");
    cr_assert_str_eq(apply(e, member(HOST_SHARED_INSERT, ""), "", 1), "invalid ");
    for (int i = 2; i < SHARED_MEMBERS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%d", i);
        cr_assert_str_eq(apply(e, member(HOST_SHARED_INSERT, name), "", 1), "ok true", "%d", i);
    }
    cr_assert_str_eq(apply(e, member(HOST_SHARED_INSERT, "more"), "", 1), "full ");
    cr_assert_str_eq(apply(e, member(HOST_SHARED_REMOVE, "ann"), "", 1), "ok true");
    cr_assert_str_eq(apply(e, member(HOST_SHARED_INSERT, "more"), "", 1), "ok true");
    shared_entry_deinit(e);
    e = opened();
    for (int i = 0; i < 1000; i++) {
        char name[ROOM_SHARED_MEMBER_MAX + 1];
        snprintf(name, sizeof(name), "%0*d", ROOM_SHARED_MEMBER_MAX, i);
        const char *came = apply(e, member(HOST_SHARED_INSERT, name), "", 1);
        if (strcmp(came, "too_big ") == 0) {
            cr_assert_gt(i, 490);
            break;
        }
        cr_assert(i < 510 && strcmp(came, "ok true") == 0, "%d %s", i, came);
    }
    again(e, 9);
    shared_entry_deinit(e);
}

Test(node_shared_entry, expiry)
{
    struct shared_entry *e = opened();
    struct shared_op hits = add(1);
    hits.ttl_ms = 1000;
    cr_assert_str_eq(apply(e, hits, "", 1), "ok 1");
    cr_assert_eq(e->expires.ms, now.ms + 1000);
    again(e, 1);
    now.ms += 999;
    cr_assert(shared_entry_there(e, now));
    cr_assert_eq(shared_entry_purge_at(e).ms, now.ms + 1 + SHARED_KEEP_MS);
    cr_assert_str_eq(apply(e, add(1), "", 1), "ok 2", "its time stays");
    again(e, 2);
    now.ms++;
    cr_assert_not(shared_entry_there(e, now));
    cr_assert_str_eq(apply(e, get(), "", 1), "not_found ");
    cr_assert_str_eq(apply(e, add(1), "", 1), "ok 1");
    cr_assert_eq(e->expires.ms, 0);
    again(e, 3);
    cr_assert_eq(shared_entry_purge_at(e).ms, 0);
    cr_assert_str_eq(apply(e, del(ROOM_SHARED_ANY), "", 1), "ok ");
    again(e, 4);
    cr_assert_eq(shared_entry_purge_at(e).ms, now.ms + SHARED_KEEP_MS, "kept a while, for who repeats");
    shared_entry_deinit(e);
}

Test(node_shared_entry, a_repeat_is_known)
{
    struct shared_entry *e = opened();
    cr_assert_str_eq(apply(e, add(5), "east", 7), "ok 5");
    again(e, 1);
    cr_assert_str_eq(apply(e, add(1), "west", 7), "ok 6");
    again(e, 2);
    cr_assert_str_eq(apply(e, add(5), "east", 7), "ok 5");
    cr_assert(e->last == SHARED_REPEATED && e->changes == 0);
    cr_assert_str_eq(apply(e, member(HOST_SHARED_INSERT, "x"), "east", 8), "invalid ");
    cr_assert_str_eq(apply(e, add(1), "east", 8), "ok 7", "what was not done is no repeat");
    cr_assert_str_eq(apply(e, del(ROOM_SHARED_ANY), "west", 8), "ok ");
    again(e, 3);
    cr_assert_str_eq(apply(e, add(1), "east", 8), "ok 7", "also when it is gone");
    cr_assert_str_eq(apply(e, del(ROOM_SHARED_ANY), "west", 8), "ok ");
    cr_assert_eq(e->changes, 0);
    struct shared_op later = add(1);
    later.epoch = 2;
    cr_assert_str_eq(apply(e, later, "east", 8), "ok 1", "the same number of another epoch is another one");
    shared_entry_deinit(e);
}

/* A busy room does not push a quiet one out; what is forgotten is never done twice. */
Test(node_shared_entry, what_is_remembered_is_bounded)
{
    struct shared_entry *e = opened();
    cr_assert_str_eq(apply(e, add(1000), "quiet", 1), "ok 1000");
    for (unsigned i = 1; i <= 3 * SHARED_DONE_MAX; i++)
        apply(e, add(1), "busy", i);
    again(e, 1);
    cr_assert_eq(e->done_count, SHARED_DONE_MAX);
    cr_assert_str_eq(apply(e, add(1000), "quiet", 1), "ok 1000");
    cr_assert_str_eq(apply(e, add(1), "busy", 3 * SHARED_DONE_MAX), "ok 1300");
    cr_assert_str_eq(apply(e, add(1), "busy", 2 * SHARED_DONE_MAX + 2), "ok 1202");
    cr_assert_str_eq(apply(e, add(1), "busy", 2 * SHARED_DONE_MAX + 1), "unknown_result ");
    cr_assert_str_eq(apply(e, add(1), "busy", 1), "unknown_result ");
    cr_assert_eq(e->changes, 0);
    cr_assert_str_eq(apply(e, add(1), "busy", 3 * SHARED_DONE_MAX + 1), "ok 1301");
    shared_entry_deinit(e);
}

Test(node_shared_entry, what_others_wrote)
{
    static const char *const texts[] = {"", "x", "7", "{}", "[]", "{\"value\":1}",
                                        "{\"value\":1,\"changed\":\"x\",\"server\":\"n\"}",
                                        "{\"value\":1,\"changed\":\"2026-01-01T00:00:00Z\",\"server\":\"n\",\"done\":[1]}"};
    struct shared_entry *e = opened();
    struct buf scratch;
    buf_init(&scratch, &alloc_libc, 100000);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cr_assert(shared_entry_read(e, (const uint8_t *)texts[i], strlen(texts[i]), 3, &scratch));
        cr_assert(e->foreign, "%s", texts[i]);
        cr_assert_str_eq(apply(e, get(), "", 1), "invalid ");
        cr_assert_str_eq(apply(e, add(1), "", 1), "invalid ");
        cr_assert_str_eq(apply(e, set("\x07", 0), "", 1), "exists ");
        cr_assert_str_eq(apply(e, i % 2 ? del(3) : set("\x07", 3), "", 1), "ok ");
        again(e, 4);
        cr_assert_str_eq(apply(e, get(), "", 1), i % 2 ? "not_found " : "ok 7");
    }
    buf_deinit(&scratch);
    shared_entry_deinit(e);
}
