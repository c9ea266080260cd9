/*
 * roomctl against a real nats-server whose buckets are filled by hand: listings, filters, exit codes, JSON, events.
 *
 * Decides what an operator can rely on when nodes are silent or gone; roomctl_nodes.py has the rest with real nodes.
 * Invariant: roomctl is run as a program, its exit code and standard output are what is judged.
 */
#include <criterion/criterion.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "support/bus_driver.h"
#include "support/nats_harness.h"
#include "support/proc.h"

enum { T = 10000, OUT = 65536 };

static struct nats_harness nats;
static struct driver *bus;
static uint64_t token;
static char out[OUT];

/* Runs roomctl with these words; standard error goes to `out` too if they end with 2>&1. */
static int ctl(const char *words)
{
    char line[1024];
    snprintf(line, sizeof line, "%s --nats %s %s", ROOMCTL, nats.urls, words);
    FILE *f = popen(line, "r");
    size_t len = fread(out, 1, sizeof out - 1, f);
    out[len] = 0;
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static json_t *ctl_json(const char *words, int want)
{
    int code = ctl(words);
    cr_assert_eq(code, want, "%s: %d: %s", words, code, out);
    json_t *root = json_loads(out, 0, NULL);
    cr_assert(root, "%s: %s", words, out);
    return root;
}

static void put(const char *bucket, const char *key, const char *value)
{
    cr_assert_eq(bus_kv_put(bus->bus, ++token, bucket, key, BUS_ANY_REVISION, value, strlen(value), T), 0);
    cr_assert(driver_wait(bus, token, T));
    cr_assert_eq(bus->done[token].result, BUS_OK);
}

static void put_server(const char *id, const char *boot, const char *status)
{
    char value[600];
    snprintf(value, sizeof value,
             "{\"boot\":\"%s\",\"address\":\"10.0.0.2\",\"port\":7000,\"region\":\"eu\",\"status\":\"%s\",\"rooms\":3,"
             "\"players\":2,\"connections\":5,\"capacity\":100,\"load\":0.25,\"version\":\"0.1.0\","
             "\"seen\":\"2025-01-01T00:00:05Z\",\"started\":\"2025-01-01T00:00:00Z\"}", boot, status);
    put("servers", id, value);
}

static void put_room(const char *id, const char *type, const char *owner, int seats, int max, bool locked)
{
    char value[600];
    snprintf(value, sizeof value,
             "{\"type\":\"%s\",\"owner\":\"%s\",\"boot\":\"b1\",\"epoch\":1,\"nonce\":\"n\",\"players\":%d,\"seats\":%d,"
             "\"seats_version\":1,\"max_players\":%d,\"locked\":%s,\"private\":false,\"durability\":\"none\","
             "\"state\":\"running\",\"created\":\"2025-01-01T00:00:00Z\"}", type, owner, seats, seats, max,
             locked ? "true" : "false");
    put("rooms", id, value);
}

static void make_bucket(const char *name)
{
    struct bus_bucket bucket = {.name = name, .watched = true};
    cr_assert_eq(bus_kv_bucket(bus->bus, ++token, &bucket, T), 0);
    cr_assert(driver_wait(bus, token, T));
    cr_assert_eq(bus->done[token].result, BUS_OK);
}

static void start_servers(int servers)
{
    struct err_detail detail = {""};
    struct bus_nats_config config = {.name = "test"};
    unsetenv("NATS_URL");
    unsetenv("NATS_CONTEXT");
    unsetenv("ROOMD_PREFIX");
    cr_assert(nats_harness_start(&nats, servers, NULL));
    setenv("HOME", nats.dir, 1);
    unsetenv("XDG_CONFIG_HOME");
    config.urls = nats.urls;
    bus = calloc(1, sizeof *bus);
    cr_assert_eq(driver_open(bus, &config, &detail), 0, "%s", detail.text);
    cr_assert(driver_until(bus, &bus->up, 1, T));
}

static void start(void)
{
    start_servers(1);
}

static void start_cluster(void)
{
    start_servers(3);
}

static void seed(void)
{
    make_bucket("servers");
    make_bucket("rooms");
    put_server("n1", "b1", "up");
    put_server("n2", "b2", "down");
    put_room("r1", "chess", "n1", 1, 2, false);
    put_room("r2", "chess", "n1", 2, 2, false);
    put_room("r3", "relay", "n2", 0, 4, true);
    put_room("r4", "chess", "n1", 0, 2, true);
}

static void stop(void)
{
    driver_close(bus);
    free(bus);
    nats_harness_stop(&nats);
}

static void expect_ids(const char *words, const char *want)
{
    json_t *root = ctl_json(words, 0), *one;
    char have[200] = "";
    size_t i;
    json_array_foreach(root, i, one)
        snprintf(have + strlen(have), sizeof have - strlen(have), "%s%s", i ? " " : "",
                 json_string_value(json_object_get(one, "id")));
    cr_assert_str_eq(have, want, "%s", words);
    json_decref(root);
}

Test(roomctl_kv, usage_and_reach, .timeout = 60, .init = start, .fini = stop)
{
    cr_assert_eq(ctl("--help"), 0);
    cr_assert(strstr(out, "doctor"));
    static const char *const verbs[] = {"servers", "server", "rooms", "room", "players", "lock",
                                        "unlock", "close", "watch", "doctor", "check", "drain", "undrain", "migrate",
                                        "snapshot ls", "snapshot save", "snapshot export", "snapshot import",
                                        "snapshot restore", "revoke", "locks", "player", "kick",
                                        "shared ls", "shared get", "shared set", "shared del"};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        char words[60];
        snprintf(words, sizeof words, "%s --help", verbs[i]);
        cr_assert_eq(ctl(words), 0);
        cr_assert(strstr(out, "example: roomctl"), "%s", verbs[i]);
    }
    cr_assert_eq(ctl("2>&1"), 2);
    cr_assert_eq(ctl("dance 2>&1"), 2);
    cr_assert_eq(ctl("room 2>&1"), 2);
    cr_assert_eq(ctl("snapshot --help"), 0);
    cr_assert(strstr(out, "snapshot restore"), "%s", out);
    cr_assert_eq(ctl("help snapshot export"), 0);
    cr_assert(strstr(out, "usage: roomctl snapshot export ROOM FILE"), "%s", out);
    cr_assert_eq(ctl("snapshot 2>&1"), 2);
    cr_assert_eq(ctl("snapshot dance 2>&1"), 2);
    cr_assert_eq(ctl("snapshot export x 2>&1"), 2);
    cr_assert_eq(ctl("migrate x 2>&1"), 2);
    cr_assert_eq(ctl("snapshot ls 2>&1"), 3, "%s", out); /* no bucket yet */
    cr_assert_eq(ctl("snapshot restore x 2>&1"), 3, "%s", out);
    cr_assert_eq(ctl("rooms --nope 2>&1"), 2);
    cr_assert_eq(ctl("rooms --sort colour 2>&1"), 2);
    cr_assert_eq(ctl("room 'a b' 2>&1"), 2);
    cr_assert(strstr(out, "invalid room id 'a b'"), "%s", out);
    cr_assert_eq(ctl("servers 2>&1"), 3, "%s", out); /* no bucket yet */
    cr_assert(strstr(out, "no bucket 'servers'"), "%s", out);
    cr_assert_eq(ctl("servers -s nats://bob:secret@127.0.0.1:1 --timeout 200ms 2>&1"), 4);
    cr_assert(strstr(out, "cannot reach NATS") && !strstr(out, "secret"), "%s", out);
    cr_assert_eq(ctl("servers --context none 2>&1"), 2);
}

Test(roomctl_kv, listings, .timeout = 60, .init = start, .fini = stop)
{
    seed();
    expect_ids("servers --json", "n1 n2");
    expect_ids("rooms --json", "r1 r2 r3 r4");
    expect_ids("rooms --json --type chess", "r1 r2 r4");
    expect_ids("rooms --json --type chess --has-space", "r1 r4");
    expect_ids("rooms --json --type chess --has-space --unlocked", "r1");
    expect_ids("rooms --json --server n2", "r3");
    expect_ids("rooms --json --sort -players", "r2 r1 r3 r4");
    expect_ids("rooms --json --sort max_players --limit 2", "r1 r2");
    expect_ids("rooms --json --type nothing", "");
    json_t *rooms = ctl_json("rooms --json", 0), *room = json_array_get(rooms, 0);
    cr_assert_eq(json_integer_value(json_object_get(room, "max_players")), 2);
    cr_assert_eq(json_object_size(room), 15); /* the registry's fields and id */
    json_decref(rooms);
    cr_assert_eq(ctl("servers"), 0);
    cr_assert(strstr(out, "ID") && strstr(out, "10.0.0.2"), "%s", out);
    put("rooms", "bad", "{\"type\":");
    cr_assert_eq(ctl("rooms 2>&1"), 0);
    cr_assert(strstr(out, "'bad'") && strstr(out, "r4"), "%s", out);
    cr_assert_eq(ctl("rooms --prefix other 2>&1"), 3);
}

Test(roomctl_kv, single_and_orders, .timeout = 60, .init = start, .fini = stop)
{
    seed();
    cr_assert_eq(ctl("server nobody 2>&1"), 3);
    cr_assert_eq(ctl("room nobody 2>&1"), 3);
    cr_assert_eq(ctl("lock nobody 2>&1"), 3);
    cr_assert_eq(ctl("player nobody 2>&1"), 3, "%s", out);
    cr_assert_eq(ctl("kick nobody 2>&1"), 3, "%s", out);
    cr_assert_eq(ctl("kick 'a b' 2>&1"), 2);
    cr_assert_eq(ctl("players --room nobody --server n9 2>&1"), 3);
    json_t *down = ctl_json("server n2 --json", 0); /* a node that is down need not answer */
    cr_assert(json_is_null(json_object_get(down, "live")));
    cr_assert_str_eq(json_string_value(json_object_get(down, "boot")), "b2");
    json_decref(down);
    cr_assert_eq(ctl("server n1 2>&1"), 4);
    cr_assert(strstr(out, "does not answer") && strstr(out, "10.0.0.2"), "%s", out);
    cr_assert_eq(ctl("close r1 2>&1"), 4);
    cr_assert_eq(ctl("players 2>&1"), 4);
}

static bool has_breach(json_t *root, const char *about, const char *text)
{
    json_t *one;
    size_t i;
    json_array_foreach(json_object_get(root, "breaches"), i, one)
    {
        if (strcmp(json_string_value(json_object_get(one, "id")), about) == 0 &&
            strstr(json_string_value(json_object_get(one, "text")), text))
            return true;
    }
    return false;
}

Test(roomctl_kv, check_and_doctor, .timeout = 60, .init = start, .fini = stop)
{
    make_bucket("servers");
    make_bucket("rooms");
    json_decref(ctl_json("check --json", 0)); /* an empty cluster is a whole one */
    seed();
    put_room("over", "chess", "n1", 3, 2, false);
    put_room("lost", "chess", "n7", 0, 2, false);
    put("rooms", "bad", "[]");
    json_t *root = ctl_json("check --json --settle 10ms", 1);
    cr_assert(has_breach(root, "room over", "3 seats of 2"));
    cr_assert(has_breach(root, "room lost", "no server of this cluster"));
    cr_assert(has_breach(root, "room r3", "owner is down"));
    cr_assert(has_breach(root, "room bad", "not readable"));
    cr_assert(has_breach(root, "server n1", "does not answer"));
    json_decref(root);
    cr_assert_eq(ctl("doctor"), 1);
    cr_assert(strstr(out, "JetStream") && strstr(out, "bucket servers") && strstr(out, "server n1"), "%s", out);
}

static void expect_says(const char *words, int code, const char *text)
{
    int got = ctl(words);
    cr_expect_eq(got, code, "%s: %d, wanted %d: %s", words, got, code, out);
    cr_expect(strstr(out, text), "%s: '%s' lacks '%s'", words, out, text);
}

Test(roomctl_kv, revoke, .timeout = 60, .init = start, .fini = stop)
{
    expect_says("revoke x 2>&1", 3, "there is no bucket 'revoked': no node of this cluster asks for tokens");
    expect_says("revoke --ls 2>&1", 3, "there is no bucket 'revoked'");
    expect_says("revoke --undo x 2>&1", 3, "there is no bucket 'revoked'");
    make_bucket("revoked");
    expect_says("revoke --ls 2>&1", 0, "nothing is revoked");
    expect_says("revoke t-1 2>&1", 0, "token 't-1' is revoked\n");
    expect_says("revoke --player ann --until 7d --reason 'charge back'", 0, "player 'ann' is revoked until 20");
    expect_says("revoke --ls", 0, "charge back");
    expect_ids("revoke --ls --json", "player.ann t-1");
    json_t *row = ctl_json("revoke t-2 --until 30s --reason why --json", 0);
    cr_expect_str_eq(json_string_value(json_object_get(row, "id")), "t-2");
    cr_expect_str_eq(json_string_value(json_object_get(row, "reason")), "why");
    cr_expect_eq(json_string_length(json_object_get(row, "until")), 24);
    json_decref(row);
    /* One that is over is in force no more, and goes when something is revoked; what cannot be read stays, for ever. */
    put("revoked", "past", "{\"until\":\"2025-01-01T00:00:00Z\"}");
    put("revoked", "bad", "nonsense");
    expect_ids("revoke --ls --json", "bad player.ann t-1 t-2");
    expect_says("revoke --undo past 2>&1", 0, "token 'past' is not revoked any more");
    put("revoked", "past", "{\"until\":\"2025-01-01T00:00:00Z\"}");
    expect_says("revoke t-3", 0, "token 't-3' is revoked");
    expect_says("revoke --undo past 2>&1", 3, "token 'past' is not revoked: see roomctl revoke --ls");
    expect_says("revoke --undo --player ann", 0, "player 'ann' is not revoked any more");
    expect_says("revoke --undo t-1", 0, "token 't-1' is not revoked any more");
    expect_ids("revoke --ls --json", "bad t-2 t-3");
    static const char *const wrong[] = {"revoke", "revoke x --ls", "revoke x --player y", "revoke --ls --until 1d",
                                        "revoke --undo", "revoke x --undo --reason y", "revoke x --ls --undo", "revoke x y"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char words[80];
        snprintf(words, sizeof words, "%s 2>&1", wrong[i]);
        expect_says(words, 2, "see roomctl revoke --help");
    }
    expect_says("revoke a.b 2>&1", 2, "invalid token id 'a.b'");
    expect_says("revoke --player a.b 2>&1", 2, "invalid player id 'a.b'");
    char longer[300] = "revoke x --reason ";
    memset(longer + strlen(longer), 'r', 129);
    strcat(longer, " 2>&1");
    expect_says(longer, 1, "--reason is longer than 128 characters");
}

static void write_context(const char *name, const char *text)
{
    char path[400];
    snprintf(path, sizeof path, "%s/.config", nats.dir);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/.config/nats", nats.dir);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/.config/nats/context", nats.dir);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/.config/nats/context/%s.json", nats.dir, name);
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fputs(text, f);
    fclose(f);
}

Test(roomctl_kv, contexts_and_environment, .timeout = 60, .init = start, .fini = stop)
{
    char text[400], line[600];
    seed();
    snprintf(text, sizeof text, "{\"url\":\"%s\",\"user\":\"bob\",\"password\":\"secret\",\"token\":\"\"}", nats.urls);
    write_context("here", text);
    write_context("key", "{\"url\":\"nats://127.0.0.1:1\",\"nkey\":\"/x\"}");
    write_context("broken", "{");
    snprintf(line, sizeof line, "%s rooms --context here --json >/dev/null", ROOMCTL);
    cr_assert_eq(WEXITSTATUS(system(line)), 0);
    snprintf(line, sizeof line, "NATS_CONTEXT=here %s rooms --json >/dev/null", ROOMCTL);
    cr_assert_eq(WEXITSTATUS(system(line)), 0);
    snprintf(line, sizeof line, "NATS_URL=%s %s rooms --json >/dev/null", nats.urls, ROOMCTL);
    cr_assert_eq(WEXITSTATUS(system(line)), 0);
    snprintf(line, sizeof line, "NATS_URL=%s ROOMD_PREFIX=q %s rooms 2>/dev/null", nats.urls, ROOMCTL);
    cr_assert_eq(WEXITSTATUS(system(line)), 3);
    cr_assert_eq(ctl("rooms --context key 2>&1"), 2);
    cr_assert(strstr(out, "nkey"), "%s", out);
    cr_assert_eq(ctl("rooms --context broken 2>&1"), 2);
    cr_assert_eq(ctl("rooms --context ../x 2>&1"), 2);
}

static bool said(void *arg)
{
    return bus_publish(bus->bus, "room.r1.created", NULL, arg, strlen(arg)) == 0 &&
           (driver_turn(bus, 20), proc_wait((pid_t)bus->lost, 0) >= 0);
}

Test(roomctl_kv, watch, .timeout = 60, .init = start, .fini = stop)
{
    char log[400], url[256];
    snprintf(log, sizeof log, "%s/watch.log", nats.dir);
    snprintf(url, sizeof url, "%s", nats.urls);
    char *argv[] = {(char[]){ROOMCTL}, (char[]){"watch"}, (char[]){"--count"}, (char[]){"1"}, (char[]){"-s"}, url, NULL};
    char event[] = "{\"type\":\"room:created\",\"id\":\"e1\",\"time\":\"2025-01-01T00:00:00Z\",\"server\":\"n1\","
                   "\"room\":\"r1\",\"epoch\":4}";
    bus->lost = (uint64_t)proc_spawn(argv, log);
    cr_assert(wait_until(said, event, T)); /* said again until it was heard */
    bus->lost = 0;
    FILE *f = fopen(log, "r");
    size_t len = fread(out, 1, sizeof out - 1, f);
    fclose(f);
    out[len] = 0;
    cr_assert(strstr(out, "2025-01-01T00:00:00Z room:created r1 server=n1 epoch=4\n"), "%s", out);
}

static bool doctor_says(void *text)
{
    ctl("doctor --timeout 500ms");
    return strstr(out, text) != NULL;
}

/* The one that is left calls itself leader until it misses the others' answers. */
static bool doctor_sees_no_majority(void *unused)
{
    (void)unused;
    return ctl("doctor --timeout 500ms") == 1 && (strstr(out, "no leader") || strstr(out, "does not answer"));
}

static bool rooms_out_of_reach(void *unused)
{
    (void)unused;
    return ctl("rooms --timeout 500ms 2>&1") == 4;
}

Test(roomctl_kv, doctor_of_a_cluster, .timeout = 120, .init = start_cluster, .fini = stop)
{
    char replicas[] = "ok    bucket rooms: 3 replicas, leader 's", behind[] = "is behind: its nats-server is down",
         user[] = "permissions";
    seed();
    cr_assert(wait_until(doctor_says, replicas, T), "%s", out);
    cr_assert(strstr(out, user), "%s", out);
    int victim = (nats_harness_leader(&nats, "KV_rooms") + 1) % 3;
    nats_harness_kill(&nats, victim);
    cr_assert(wait_until(doctor_says, behind, 3 * T), "%s", out);
    nats_harness_kill(&nats, (victim + 1) % 3); /* no majority any more: said, with the exit code of a NATS out of reach */
    cr_assert(wait_until(doctor_sees_no_majority, NULL, 3 * T), "%s", out);
    cr_assert(wait_until(rooms_out_of_reach, NULL, 3 * T), "%s", out);
}
