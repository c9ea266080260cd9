/*
 * roomctl with two real nodes and players in their rooms: what it shows is what is, its orders are carried out, and check
 * finds what was planted.
 *
 * Decides nothing about the nodes themselves. Invariant: waits for conditions with deadlines only; children die with us.
 */
#include <criterion/criterion.h>

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "room/client.h"
#include "support/bus_driver.h"
#include "support/nats_harness.h"
#include "support/proc.h"

enum { T = 15000, OUT = 65536, NODES = 2 };

struct player {
    struct room_client *client;
    bool welcome, joined, left;
};

static struct nats_harness nats;
static struct driver *bus;
static uint64_t token;
static pid_t nodes[NODES];
static char listens[NODES][64];
static char out[OUT];

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

static json_t *ctl_json(const char *words)
{
    int code = ctl(words);
    cr_assert_eq(code, 0, "%s: %d: %s", words, code, out);
    json_t *root = json_loads(out, 0, NULL);
    cr_assert(root, "%s: %s", words, out);
    return root;
}

/* "a b" of the ids that a verb lists. */
static const char *ids(const char *words)
{
    static char text[400];
    json_t *root = ctl_json(words), *one;
    size_t i;
    text[0] = 0;
    json_array_foreach(root, i, one)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "",
                 json_string_value(json_object_get(one, "id")));
    json_decref(root);
    return text;
}

static bool rooms_are(void *want)
{
    return strcmp(ids("rooms --json"), want) == 0;
}

static bool all_holds(void *arg)
{
    return ctl("check --settle 10ms") == 0;
}

static bool ready(void *arg)
{
    int i = *(int *)arg;
    char path[320], line[400];
    snprintf(path, sizeof path, "%s/n%d.log", nats.dir, i);
    FILE *f = fopen(path, "r");
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f))
        found = sscanf(line, "ready server=%*s listen=%63s", listens[i]) == 1;
    if (f)
        fclose(f);
    return found;
}

static void start_node(int i)
{
    char id[16], log[320], data[320];
    snprintf(id, sizeof id, "n%d", i);
    snprintf(log, sizeof log, "%s/n%d.log", nats.dir, i);
    snprintf(data, sizeof data, "%s", nats.urls);
    char *argv[] = {(char[]){ROOMD}, (char[]){"--server-id"}, id, (char[]){"--listen"}, (char[]){"127.0.0.1:0"},
                    (char[]){"--nats"}, data, NULL};
    nodes[i] = proc_spawn(argv, log);
    cr_assert(nodes[i] > 0);
    cr_assert(wait_until(ready, &i, T), "node %s does not get ready", id);
}

static void start(void)
{
    struct err_detail detail = {""};
    struct bus_nats_config config = {.name = "test"};
    static const char *const variables[] = {"NATS_URL", "NATS_CONTEXT", "ROOMD_PREFIX", "XDG_CONFIG_HOME"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i]);
    cr_assert(nats_harness_start(&nats, 1, NULL));
    setenv("HOME", nats.dir, 1);
    config.urls = nats.urls;
    bus = calloc(1, sizeof *bus);
    cr_assert_eq(driver_open(bus, &config, &detail), 0, "%s", detail.text);
    cr_assert(driver_until(bus, &bus->up, 1, T));
    for (int i = 0; i < NODES; i++)
        start_node(i);
}

static void stop(void)
{
    for (int i = 0; i < NODES; i++)
        proc_kill(nodes[i]);
    driver_close(bus);
    free(bus);
    nats_harness_stop(&nats);
}

static void on_welcome(void *arg, const char *server, const char *session)
{
    ((struct player *)arg)->welcome = true;
}

static void on_joined(void *arg, const struct room_client_joined *joined)
{
    ((struct player *)arg)->joined = true;
}

static void on_left(void *arg, uint32_t room, const char *reason)
{
    ((struct player *)arg)->left = true;
}

struct turn {
    struct player *player;
    bool *flag;
};

static bool flag_set(void *arg)
{
    struct turn *t = arg;
    room_client_run_once(t->player->client, 20);
    return *t->flag;
}

static void enter(struct player *p, const char *name, int node, const char *room)
{
    struct room_client_config config = {.servers = listens[node], .player = name, .can_relay = 1, .arg = p,
                                        .on = {.welcome = on_welcome, .joined = on_joined, .left = on_left}};
    struct room_client_join join = {.type = "relay", .room_id = room};
    memset(p, 0, sizeof *p);
    cr_assert_eq(room_client_create(&config, &p->client), 0);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    cr_assert_eq(room_client_connect(p->client, now.tv_sec * 1000 + now.tv_nsec / 1000000), 0);
    cr_assert(wait_until(flag_set, &(struct turn){p, &p->welcome}, T), "%s is not welcome", name);
    cr_assert_eq(room_client_join(p->client, &join, NULL), 0);
    cr_assert(wait_until(flag_set, &(struct turn){p, &p->joined}, T), "%s cannot join", name);
}

static void plant(const char *key, const char *value)
{
    int err = value ? bus_kv_put(bus->bus, ++token, "rooms", key, BUS_ANY_REVISION, value, strlen(value), T)
                    : bus_kv_delete(bus->bus, ++token, "rooms", key, BUS_ANY_REVISION, T);
    cr_assert_eq(err, 0);
    cr_assert(driver_wait(bus, token, T));
}

static bool live_locked(const char *room)
{
    char words[100];
    snprintf(words, sizeof words, "room %s --json", room);
    json_t *root = ctl_json(words);
    bool locked = json_is_true(json_object_get(json_object_get(root, "live"), "locked"));
    json_decref(root);
    return locked;
}

static void orders(struct player *alice)
{
    char only_b[] = "r-b";
    cr_assert_eq(ctl("lock r-a"), 0, "%s", out);
    cr_assert(live_locked("r-a"));
    cr_assert_eq(ctl("unlock r-a"), 0);
    cr_assert(!live_locked("r-a"));
    cr_assert_eq(ctl("close r-a"), 0);
    cr_assert(wait_until(flag_set, &(struct turn){alice, &alice->left}, T), "alice was not told");
    cr_assert(wait_until(rooms_are, only_b, T));
    cr_assert_eq(ctl("close r-a 2>&1"), 3, "%s", out);
    cr_assert(wait_until(all_holds, NULL, T), "%s", out);
}

Test(roomctl_nodes, two_nodes, .timeout = 120, .init = start, .fini = stop)
{
    struct player alice, bob;
    char both[] = "r-a r-b";
    cr_assert_str_eq(ids("servers --json"), "n0 n1");
    enter(&alice, "alice", 0, "r-a");
    enter(&bob, "bob", 1, "r-b");
    cr_assert(wait_until(rooms_are, both, T));
    cr_assert_eq(ctl("check"), 0, "%s", out);
    cr_assert(strstr(out, "2 servers, 2 rooms, 0 breaches"), "%s", out);
    cr_assert_eq(ctl("doctor"), 0, "%s", out);
    cr_assert_str_eq(ids("players --json"), "alice bob");
    cr_assert_str_eq(ids("players --json --room r-a"), "alice");
    cr_assert_str_eq(ids("players --json --server n1"), "bob");
    cr_assert_eq(ctl("room r-a"), 0);
    cr_assert(strstr(out, "[\"alice\"]"), "%s", out);
    plant("ghost", "{\"type\":\"relay\",\"owner\":\"n0\",\"boot\":\"of-old\",\"epoch\":1,\"nonce\":\"n\",\"players\":0,"
                   "\"seats\":0,\"seats_version\":1,\"max_players\":2,\"locked\":false,\"private\":false,"
                   "\"durability\":\"none\",\"state\":\"running\",\"created\":\"2025-01-01T00:00:00Z\"}");
    cr_assert_eq(ctl("check --settle 10ms"), 1, "%s", out);
    cr_assert(strstr(out, "room ghost"), "%s", out);
    plant("ghost", NULL);
    plant("broken", "no JSON");
    cr_assert_eq(ctl("check --settle 1s"), 1, "%s", out);
    cr_assert(strstr(out, "room broken: the entry is not readable"), "%s", out);
    plant("broken", NULL);
    cr_assert(wait_until(all_holds, NULL, T), "%s", out);
    orders(&alice);
    room_client_destroy(alice.client);
    room_client_destroy(bob.client);
}

Test(roomctl_nodes, a_node_dies, .timeout = 120, .init = start, .fini = stop)
{
    struct player bob;
    char one[] = "r-b";
    enter(&bob, "bob", 1, "r-b");
    cr_assert(wait_until(rooms_are, one, T));
    for (int i = 0; i < NODES; i++)
        kill(nodes[i], SIGSTOP);
    cr_assert_eq(ctl("check --settle 10ms --timeout 300ms"), 1, "%s", out);
    cr_assert(strstr(out, "does not tell its rooms"), "%s", out);
    cr_assert_eq(ctl("doctor --timeout 300ms"), 1, "%s", out);
    cr_assert_eq(ctl("players --timeout 300ms 2>&1"), 4, "%s", out);
    for (int i = 0; i < NODES; i++)
        kill(nodes[i], SIGCONT);
    cr_assert(wait_until(all_holds, NULL, T), "%s", out);
    proc_kill(nodes[1]);
    nodes[1] = 0;
    cr_assert(wait_until(all_holds, NULL, T), "%s", out); /* the survivor has cleaned up */
    room_client_destroy(bob.client);
}
