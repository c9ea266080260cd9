/*
 * roomctl and rooms that outlive their nodes: moved, drained, saved, exported, brought back; and check, which finds each
 * thing planted that would keep one of them from coming back.
 *
 * Decides nothing about how nodes save. Invariant: after each planted breach and its repair check is clean again, so that no
 * finding hides behind another one.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "integration/roomctl_field.h"
#include "support/proc.h"

static const uint8_t ADD_5[] = {0x81, 0xa3, 'a', 'd', 'd', 5};              /* {"add": 5} */
static const uint8_t VALUE_5[] = {0x81, 0xa5, 'v', 'a', 'l', 'u', 'e', 5};  /* {"value": 5} */
static const uint8_t VALUE_10[] = {0x81, 0xa5, 'v', 'a', 'l', 'u', 'e', 10};
static const uint8_t SET_A[] = {0x81, 0xa3, 's', 'e', 't', 0x81, 0xa1, 'a', 1}; /* {"set": {"a": 1}} */

static void start(void)
{
    field_start(2, NULL, NULL);
}

static void start_one(void)
{
    field_start(1, NULL, NULL);
}

static void start_prefixed(void)
{
    field_start(1, "--prefix", "q");
}

static void start_small(void)
{
    field_start(1, "--capacity", "1");
}

/* A counter at 5 on n0 and a document on n1, each with a snapshot of that. */
static void rooms(struct player *ann, struct player *bob, int second)
{
    char both[] = "c-1 s-1";
    enter(ann, "ann", 0, "counter", "c-1");
    enter(bob, "bob", second, "state", "s-1");
    send_value(ann, ADD_5, sizeof ADD_5);
    send_value(bob, SET_A, sizeof SET_A);
    cr_assert(wait_until(rooms_are, both, FIELD_T));
    cr_assert_eq(ctl("snapshot save c-1"), 0, "%s", ctl_out());
    cr_assert_eq(ctl("snapshot save s-1"), 0, "%s", ctl_out());
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
}

static json_t *room_entry(const char *room)
{
    char words[100];
    snprintf(words, sizeof words, "room %s --json 2>/dev/null", room);
    if (ctl(words) != 0)
        return NULL;
    return json_loads(ctl_out(), 0, NULL);
}

static bool is(json_t *object, const char *key, const char *want)
{
    const char *have = json_string_value(json_object_get(object, key));
    return have && strcmp(have, want) == 0;
}

static bool runs(void *room)
{
    json_t *entry = room_entry(room);
    bool yes = is(entry, "state", "running") && json_is_object(json_object_get(entry, "live"));
    json_decref(entry);
    return yes;
}

static bool not_listed(void *room)
{
    char words[100];
    snprintf(words, sizeof words, "room %s 2>&1", (const char *)room);
    return ctl(words) == 3;
}

static void expect_value(int node, const uint8_t *want, size_t len)
{
    struct player eve;
    enter(&eve, "eve", node, "counter", "c-1");
    cr_assert_eq(eve.state_len, len);
    cr_assert_eq(memcmp(eve.state, want, len), 0);
    room_client_destroy(eve.client);
}

/* ---- moving ---- */

Test(roomctl_durable, migrate, .timeout = 120, .init = start, .fini = field_stop)
{
    struct player ann, bob;
    rooms(&ann, &bob, 1);
    enter(&bob, "rob", 0, "relay", "r-1"); /* on n0 or n1, by the placement */
    json_t *before = room_entry("c-1");
    const char *other = is(before, "owner", "n0") ? "n1" : "n0";
    char words[100];
    snprintf(words, sizeof words, "migrate c-1 %s --json", other);
    json_t *moved = ctl_json(words, 0);
    cr_assert(is(moved, "room", "c-1") && is(moved, "server", other));
    cr_assert_gt(json_integer_value(json_object_get(moved, "epoch")), json_integer_value(json_object_get(before, "epoch")));
    json_decref(moved);
    json_decref(before);
    before = room_entry("c-1");
    cr_assert(is(before, "owner", other));
    json_decref(before);
    snprintf(words, sizeof words, "migrate c-1 %s", other);
    cr_assert_eq(ctl(words), 0);
    cr_assert(strstr(ctl_out(), "already"), "%s", ctl_out());
    cr_assert_eq(ctl("migrate c-1 any"), 0, "%s", ctl_out());
    cr_assert(strstr(ctl_out(), "has moved"), "%s", ctl_out());
    cr_assert_eq(ctl("migrate nope any 2>&1"), 3);
    cr_assert(strstr(ctl_out(), "no room 'nope'"), "%s", ctl_out());
    cr_assert_eq(ctl("migrate c-1 n9 2>&1"), 3);
    cr_assert(strstr(ctl_out(), "no server 'n9'"), "%s", ctl_out());
    cr_assert_eq(ctl("migrate c-1 2>&1"), 2);
    send_value(&ann, ADD_5, sizeof ADD_5);
    expect_value(1, VALUE_10, sizeof VALUE_10);
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
    room_client_destroy(ann.client);
    room_client_destroy(bob.client);
}

Test(roomctl_durable, drain, .timeout = 120, .init = start, .fini = field_stop)
{
    struct player ann, bob;
    rooms(&ann, &bob, 0);
    room_client_destroy(ann.client);
    room_client_destroy(bob.client);
    json_t *done = ctl_json("drain n0 --json", 0);
    cr_assert(json_is_true(json_object_get(done, "drained")));
    cr_assert_eq(json_integer_value(json_object_get(done, "rooms")), 0);
    json_decref(done);
    cr_assert_eq(ctl("server n0"), 0);
    cr_assert(strstr(ctl_out(), "draining:       yes"), "%s", ctl_out());
    cr_assert_eq(ctl("drain n0"), 0); /* once more is no harm */
    cr_assert(strstr(ctl_out(), "n0 is empty"), "%s", ctl_out());
    cr_assert_eq(ctl("drain n1 --deadline 1500ms 2>&1"), 1); /* nobody else takes rooms now */
    cr_assert(strstr(ctl_out(), "2 room(s) left") && strstr(ctl_out(), "left: room c-1") && strstr(ctl_out(), "no_target"), "%s",
              ctl_out());
    cr_assert_eq(ctl("undrain n0"), 0);
    cr_assert_eq(ctl("drain n1"), 0, "%s", ctl_out());
    cr_assert_eq(ctl("undrain n1"), 0);
    cr_assert_eq(ctl("drain n1 --no-wait --json"), 0);
    cr_assert_eq(ctl("undrain n1 --json"), 0);
    cr_assert_eq(ctl("drain n9 2>&1"), 3);
    cr_assert_eq(ctl("undrain n9 2>&1"), 3);
    cr_assert_eq(ctl("drain 2>&1"), 2);
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
}

/* ---- there and back ---- */

static void file_words(char out[600], const char *verb, const char *file, const char *more)
{
    snprintf(out, 600, "snapshot %s %s/%s %s 2>&1", verb, field_dir(), file, more);
}

static void expect_refused(const char *verb, const char *file, const char *more, const char *says)
{
    char words[600];
    file_words(words, verb, file, more);
    cr_assert_eq(ctl(words), 1, "%s: %s", words, ctl_out());
    cr_assert(strstr(ctl_out(), says), "%s: %s", words, ctl_out());
}

static void expect_done(const char *verb, const char *file, const char *more)
{
    char words[600];
    file_words(words, verb, file, more);
    cr_assert_eq(ctl(words), 0, "%s: %s", words, ctl_out());
}

static void damage_file(const char *file, const char *copy)
{
    char line[1400];
    snprintf(line, sizeof line, "head -c -1 %s/%s > %s/%s", field_dir(), file, field_dir(), copy);
    cr_assert_eq(system(line), 0);
}

Test(roomctl_durable, export_and_import, .timeout = 120, .init = start, .fini = field_stop)
{
    struct player ann, bob;
    char c1[] = "c-1";
    rooms(&ann, &bob, 1);
    cr_assert_str_eq(ctl_ids("snapshot ls --json"), "c-1 s-1");
    cr_assert_str_eq(ctl_ids("snapshot ls --json --room s-1"), "s-1");
    cr_assert_eq(ctl("snapshot ls --room r-9 2>&1"), 3);
    cr_assert_eq(ctl("snapshot ls"), 0);
    cr_assert(strstr(ctl_out(), "POSITION"), "%s", ctl_out());
    cr_assert_eq(ctl("snapshot save nope 2>&1"), 3);
    cr_assert_eq(ctl("snapshot export nope /dev/null 2>&1"), 3);
    expect_done("export c-1", "c.snapshot", "--json");
    expect_refused("export c-1", "c.snapshot", "", "exists");
    expect_done("export c-1", "c.snapshot", "--force");
    send_value(&ann, ADD_5, sizeof ADD_5); /* 10: not in the file */
    expect_refused("import", "c.snapshot", "", "runs on");
    expect_refused("import", "c.snapshot", "--force", "runs on");
    damage_file("c.snapshot", "cut.snapshot");
    expect_refused("import", "cut.snapshot", "", "damaged or cut off");
    expect_refused("import", "none.snapshot", "", "cannot open");
    room_client_destroy(ann.client);
    cr_assert_eq(ctl("close c-1"), 0);
    cr_assert(wait_until(not_listed, c1, FIELD_T));
    expect_done("import", "c.snapshot", "");
    cr_assert(wait_until(runs, c1, FIELD_T), "%s", ctl_out());
    expect_value(0, VALUE_5, sizeof VALUE_5); /* the state and nothing of the old journal */
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
    cr_assert_eq(ctl("snapshot restore c-1 2>&1"), 1);
    cr_assert(strstr(ctl_out(), "neither parked nor pending"), "%s", ctl_out());
    cr_assert_eq(ctl("snapshot restore nope 2>&1"), 3);
    room_client_destroy(bob.client);
}

static void plant_snapshot(const char *room, const char *type, long long epoch, const char *sum, int bytes, int chunks)
{
    char value[800], data[100] = "";
    if (!chunks)
        snprintf(data, sizeof data, ",\"data\":{\"$bin\":\"AAEC\"}");
    snprintf(value, sizeof value,
             "{\"room\":\"%s\",\"type\":\"%s\",\"cluster\":\"x\",\"server\":\"n0\",\"epoch\":%lld,\"version\":1,\"position\":0,"
             "\"saved\":\"2025-01-01T00:00:00Z\",\"bytes\":%d,\"checksum\":\"%s\",\"codec\":1,\"chunks\":%d%s}", room, type, epoch,
             bytes, sum, chunks, data);
    plant("snapshots", room, value);
}

static void expect_breach(const char *text)
{
    cr_assert_eq(ctl("check --settle 10ms"), 1, "'%s' is not found: %s", text, ctl_out());
    cr_assert(strstr(ctl_out(), text), "'%s' is not found: %s", text, ctl_out());
    cr_assert(strstr(ctl_out(), " 1 breaches"), "'%s' is not alone: %s", text, ctl_out());
}

/* A type that no node knows, so that none takes the room; more than one chunk. */
Test(roomctl_durable, in_chunks, .timeout = 120, .init = start_one, .fini = field_stop)
{
    enum { ALL = 600000, FIRST = 524288 };
    static char bytes[ALL + 1];
    char line[1400], sum[17];
    for (int i = 0; i < ALL; i++)
        bytes[i] = (char)('a' + i % 23);
    snprintf(sum, sizeof sum, "%016llx", (unsigned long long)XXH3_64bits(bytes, ALL));
    cr_assert(wait_until(all_holds, NULL, FIELD_T));
    plant("snapshots", "big.1.1.1", bytes + FIRST);
    bytes[FIRST] = 0;
    plant("snapshots", "big.1.1.0", bytes);
    plant_snapshot("big", "unheard-of", 1, sum, ALL, 2);
    expect_done("export big", "a.snapshot", "");
    plant("snapshots", "big.1.1.0", NULL);
    expect_refused("export big", "b.snapshot", "", "snapshot of room 'big': chunk 'big.1.1.0' is missing");
    expect_done("import", "a.snapshot", "");
    expect_refused("import", "a.snapshot", "", "listed as pending");
    expect_done("import", "a.snapshot", "--force");
    expect_done("export big", "b.snapshot", "");
    snprintf(line, sizeof line, "cd %s && tail -c %d a.snapshot > a && tail -c %d b.snapshot > b && cmp a b", field_dir(), ALL, ALL);
    cr_assert_eq(system(line), 0);
    json_t *list = ctl_json("snapshot ls --json --room big", 0), *one = json_array_get(list, 0);
    cr_assert_eq(json_integer_value(json_object_get(one, "chunks")), 2);
    cr_assert_eq(json_integer_value(json_object_get(one, "epoch")), 3); /* once above the file's 1, once above that */
    json_decref(list);
    expect_breach("room big: pending");
}

Test(roomctl_durable, with_a_prefix, .timeout = 120, .init = start_prefixed, .fini = field_stop)
{
    struct player ann;
    enter(&ann, "ann", 0, "counter", "c-1");
    send_value(&ann, ADD_5, sizeof ADD_5);
    cr_assert_eq(ctl("snapshot save c-1 --prefix q"), 0, "%s", ctl_out());
    cr_assert_str_eq(ctl_ids("snapshot ls --json --prefix q"), "c-1");
    json_t *root = ctl_json("check --json --prefix q", 0);
    cr_assert_eq(json_integer_value(json_object_get(root, "snapshots")), 1);
    cr_assert_eq(json_integer_value(json_object_get(root, "journals")), 1);
    json_decref(root);
    cr_assert_eq(ctl("doctor --prefix q"), 0, "%s", ctl_out());
    cr_assert(strstr(ctl_out(), "stream q_ROOM_JOURNAL_3"), "%s", ctl_out());
    cr_assert_eq(ctl("close c-1 --prefix q"), 0);
    root = ctl_json("check --json --prefix q", 0); /* nothing is left behind */
    cr_assert_eq(json_integer_value(json_object_get(root, "journals")), 0);
    json_decref(root);
    plant("q_snapshots", "c-1", "{}");
    cr_assert_eq(ctl("check --prefix q --settle 10ms"), 1);
    cr_assert(strstr(ctl_out(), "nats kv del q_snapshots c-1"), "%s", ctl_out());
    room_client_destroy(ann.client);
}

static bool doctor_is_well(void *unused)
{
    return ctl("doctor") == 0;
}

Test(roomctl_durable, doctor_misses, .timeout = 120, .init = start_one, .fini = field_stop)
{
    cr_assert(wait_until(doctor_is_well, NULL, FIELD_T), "%s", ctl_out());
    ask_jetstream("STREAM.UPDATE.ROOM_JOURNAL_1",
                  "{\"name\":\"ROOM_JOURNAL_1\",\"subjects\":[\"journal.1.*\"],\"max_msgs\":1000,\"num_replicas\":1,"
                  "\"storage\":\"file\",\"retention\":\"limits\",\"discard\":\"old\",\"duplicate_window\":100000000}");
    ask_jetstream("STREAM.DELETE.ROOM_JOURNAL_2", "");
    ask_jetstream("STREAM.DELETE.KV_cluster", "");
    cr_assert_eq(ctl("doctor"), 1);
    cr_assert(strstr(ctl_out(), "stream ROOM_JOURNAL_1: it has a limit, max_msgs"), "%s", ctl_out());
    cr_assert(strstr(ctl_out(), "stream ROOM_JOURNAL_2: missing, though the others are there"), "%s", ctl_out());
    cr_assert(strstr(ctl_out(), "bucket cluster: missing"), "%s", ctl_out());
    cr_assert(strstr(ctl_out(), "3 to repair"), "%s", ctl_out());
}

/* The listing as it was, but for the state; no node runs while it is written. */
static void list_as(const char *room, const char *state)
{
    json_t *all = ctl_json("rooms --json", 0), *entry;
    size_t i;
    json_array_foreach(all, i, entry)
    {
        if (!is(entry, "id", room))
            continue;
        json_object_set_new(entry, "state", json_string(state));
        json_object_set_new(entry, "restores", json_integer(3));
        json_object_del(entry, "id");
        char *text = json_dumps(entry, JSON_COMPACT);
        plant("rooms", room, text);
        free(text);
    }
    json_decref(all);
}

Test(roomctl_durable, parked_and_forgotten, .timeout = 180, .init = start, .fini = field_stop)
{
    struct player ann, bob;
    char c1[] = "c-1", s1[] = "s-1", parked[] = "room c-1: parked", orphan[] = "room s-1: orphan snapshot",
         lost[] = "room c-1: orphan journal";
    rooms(&ann, &bob, 1);
    room_client_destroy(ann.client);
    room_client_destroy(bob.client);
    expect_done("export c-1", "c.snapshot", "");
    for (int i = 0; i < 2; i++)
        field_kill_node(i);
    list_as("c-1", "parked");
    plant("rooms", "s-1", NULL);
    for (int i = 0; i < 2; i++)
        field_start_node(i);
    cr_assert(wait_until(check_says, parked, FIELD_T), "%s", ctl_out());
    cr_assert(wait_until(check_says, orphan, FIELD_T), "%s", ctl_out());
    expect_refused("import", "c.snapshot", "", "listed as parked");
    cr_assert_eq(ctl("snapshot restore c-1"), 0, "%s", ctl_out());
    cr_assert(wait_until(runs, c1, FIELD_T), "%s", ctl_out());
    expect_value(1, VALUE_5, sizeof VALUE_5);
    json_t *saved = ctl_json("snapshot ls --room s-1 --json", 0), *back = ctl_json("snapshot restore s-1 --json", 0);
    cr_assert_gt(json_integer_value(json_object_get(back, "epoch")), /* owners after that snapshot had higher ones */
                 json_integer_value(json_object_get(json_array_get(saved, 0), "epoch")));
    json_decref(saved);
    json_decref(back);
    cr_assert(wait_until(runs, s1, FIELD_T), "%s", ctl_out());
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
    enter(&ann, "ann", 0, "counter", "c-1");
    send_value(&ann, ADD_5, sizeof ADD_5); /* 10: in the journal only */
    room_client_destroy(ann.client);
    field_kill_node(0);
    field_kill_node(1);
    plant("rooms", "c-1", NULL);
    field_start_node(1);
    cr_assert(wait_until(check_says, lost, FIELD_T), "%s", ctl_out());
    cr_assert_eq(ctl("snapshot restore c-1"), 0, "%s", ctl_out());
    cr_assert(wait_until(runs, c1, FIELD_T), "%s", ctl_out());
    expect_value(1, VALUE_10, sizeof VALUE_10);
    field_kill_node(1);
    list_as("c-1", "parked");
    field_start_node(0);
    expect_done("import", "c.snapshot", "--force");
    cr_assert(wait_until(runs, c1, FIELD_T), "%s", ctl_out());
    expect_value(0, VALUE_5, sizeof VALUE_5);
    cr_assert(wait_until(all_holds, NULL, 2 * FIELD_T), "%s", ctl_out());
}

/* ---- what check finds ---- */

static const char *right_sum(void)
{
    static char sum[17];
    snprintf(sum, sizeof sum, "%016llx", (unsigned long long)XXH3_64bits("\0\1\2", 3));
    return sum;
}

/* The owner writes a new snapshot where there is none. */
static void repair(const char *room)
{
    char words[100];
    plant("snapshots", room, NULL);
    snprintf(words, sizeof words, "snapshot save %s", room);
    cr_assert_eq(ctl(words), 0, "%s", ctl_out());
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
}

static void snapshots_planted(void)
{
    plant_snapshot("s-1", "state", 99, right_sum(), 3, 0);
    expect_breach("snapshot of a later owner than listed: epoch 99");
    repair("s-1");
    plant_snapshot("s-1", "chess", 1, right_sum(), 3, 0);
    expect_breach("snapshot of another type");
    repair("s-1");
    plant_snapshot("s-1", "state", 1, "0000000000000000", 3, 0);
    expect_breach("snapshot is damaged: its bytes have checksum");
    cr_assert_eq(ctl("snapshot export s-1 /dev/null --force 2>&1"), 1);
    cr_assert(strstr(ctl_out(), "its bytes have checksum"), "%s", ctl_out());
    repair("s-1");
    plant_snapshot("s-1", "state", 1, right_sum(), 600000, 2);
    expect_breach("chunk 's-1.1.1.0' is missing");
    plant("snapshots", "s-1.1.1.0", "short");
    expect_breach("chunk 's-1.1.1.0' has 5 bytes instead of 524288");
    cr_assert_str_eq(ctl_ids("snapshot ls --json"), "c-1 s-1"); /* chunks are no rooms */
    plant("snapshots", "s-1.1.1.0", NULL);
    repair("s-1");
    plant("snapshots", "s-1", "no JSON");
    expect_breach("its entry is not readable");
    repair("s-1");
    plant("snapshots", "s-1", NULL);
    expect_breach("room s-1: cannot be restored: its durability is snapshot");
    repair("s-1");
    plant_snapshot("gone", "state", 1, right_sum(), 3, 0);
    expect_breach("room gone: orphan snapshot");
    plant("snapshots", "gone", NULL);
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
}

static void journals_planted(void)
{
    plant_journal("gone", 0);
    expect_breach("room gone: orphan journal");
    purge_journal("gone");
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
    plant_journal("c-1", 7777);
    expect_breach("room c-1: journal has a gap after the snapshot");
    plant("snapshots", "c-1", NULL);
    expect_breach("room c-1: cannot be restored: its durability is journal");
    purge_journal("c-1");
    repair("c-1");
}

Test(roomctl_durable, check_finds, .timeout = 180, .init = start, .fini = field_stop)
{
    struct player ann, bob;
    rooms(&ann, &bob, 1);
    snapshots_planted();
    journals_planted();
    send_value(&ann, ADD_5, sizeof ADD_5); /* the room has stood it all: its journal begins anew, and it saves itself */
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
    room_client_destroy(ann.client);
    room_client_destroy(bob.client);
}

static void plant_pending(const char *room, const char *state)
{
    char value[600];
    snprintf(value, sizeof value,
             "{\"type\":\"unheard-of\",\"owner\":\"n0\",\"boot\":\"0\",\"epoch\":1,\"nonce\":\"n\",\"players\":0,\"seats\":0,"
             "\"seats_version\":1,\"max_players\":2,\"locked\":false,\"private\":false,\"durability\":\"snapshot\","
             "\"state\":\"%s\",\"created\":\"2025-01-01T00:00:00Z\",\"restores\":3}", state);
    plant("rooms", room, value);
    plant_snapshot(room, "unheard-of", 1, right_sum(), 3, 0);
}

Test(roomctl_durable, waiting_with_room, .timeout = 120, .init = start_one, .fini = field_stop)
{
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
    plant_pending("w-1", "pending");
    expect_breach("room w-1: pending: nobody runs it, though a node has room");
    plant_pending("w-1", "parked");
    expect_breach("room w-1: parked: 3 owners in a row could not run it");
}

Test(roomctl_durable, waiting_without_room, .timeout = 120, .init = start_small, .fini = field_stop)
{
    struct player ann;
    char one[] = "c-1";
    enter(&ann, "ann", 0, "counter", "c-1");
    cr_assert(wait_until(rooms_are, one, FIELD_T));
    plant_pending("w-1", "pending");
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
    cr_assert(strstr(ctl_out(), "room w-1: pending: no node has room for it"), "%s", ctl_out());
    room_client_destroy(ann.client);
}
