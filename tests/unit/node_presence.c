/*
 * One session per player, seen from one node on virtual time: what stands in the registry, for how long, and what happens while
 * the registry does not answer. Other gateways are played by what this test writes and hears on the bus.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "bus/bus_mem.h"
#include "login/digest.h"
#include "node/state.h"
#include "node_quiet.h"

enum { CONNS = 16 };

static struct alloc_budget memory;
static struct bus *bus;
static struct types *types;
static struct node *node;
static struct mono now;
static struct wall wall;
static struct told {
    int op;
    bool closed, resumed;
    char resume[128], word[32];
} told[CONNS];

static void out_send(void *arg, uint64_t conn, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
    struct wire_frame_welcome w;
    struct wire_frame_kicked k;
    struct told *t = &told[conn];
    t->op = wire_peek_op(head, head_len);
    if (t->op == WIRE_OP_WELCOME && wire_frame_welcome_unpack(&w, head, head_len, NULL) == 0) {
        snprintf(t->resume, sizeof(t->resume), "%.*s", (int)w.resume.len, w.resume.data);
        t->resumed = w.resumed;
    }
    if (t->op == WIRE_OP_KICKED && wire_frame_kicked_unpack(&k, head, head_len, NULL) == 0)
        snprintf(t->word, sizeof(t->word), "%.*s", (int)k.reason.len, k.reason.data);
}

static void out_close(void *arg, uint64_t conn, const char *reason, const void *final, size_t final_len)
{
    struct wire_frame_error e;
    cr_assert(!told[conn].closed, "closed twice");
    told[conn].closed = true;
    if (final_len && wire_frame_error_unpack(&e, final, final_len, NULL) == 0)
        snprintf(told[conn].word, sizeof(told[conn].word), "%.*s", (int)e.code.len, e.code.data);
}

static void run(int64_t ms, int step)
{
    for (int64_t t = 0; t < ms; t += step) {
        now = mono_add_ms(now, step);
        wall.ms += step;
        bus_mem_tick(bus, now);
        while (node_turn(node, now, wall))
            bus_mem_tick(bus, now);
    }
}

static void setup(void)
{
    struct node_out out = node_quiet;
    struct node_config config;
    out.send = out_send;
    out.close = out_close;
    memset(told, 0, sizeof(told));
    now = (struct mono){1000000};
    wall = (struct wall){1700000000000};
    alloc_budget_init(&memory, &alloc_libc, SIZE_MAX);
    bus = bus_mem_create(&memory.alloc, now, 0);
    types = types_create(&memory.alloc);
    node_config_defaults(&config);
    config.core.alloc = &memory.alloc;
    config.core.self.capacity = 10;
    config.types = types;
    id_set(&config.core.self.id, "a");
    node = node_create(&config, bus, &out, now, wall);
    cr_assert_not_null(node);
    run(500, 10);
}

static void teardown(void)
{
    node_destroy(node);
    types_destroy(types);
    bus_mem_destroy(bus);
    cr_assert_eq(memory.used_bytes, 0);
}

TestSuite(node_presence, .init = setup, .fini = teardown, .timeout = 60);

static void say(uint64_t conn, int op, const void *message)
{
    struct buf b;
    buf_init(&b, &memory.alloc, 1 << 20);
    cr_assert_eq(codec_pack(codec_by_op(op), message, &b), 0);
    node_frame(node, conn, NODE_MSGPACK, b.data, b.len, now, wall);
    buf_deinit(&b);
}

static void hello(uint64_t conn, const char *player, const char *resume)
{
    struct wire_frame_hello m = {.v = 1, .resume = wire_str(resume)};
    m.can.items[m.can.count++] = wire_str("resume");
    id_set(&m.player, player);
    say(conn, WIRE_OP_HELLO, &m);
}

static void close_conn(uint64_t conn)
{
    node_closed(node, conn, "disconnected", now, wall);
}

static uint64_t looked_at;
static char found[1024];

static void look_event(void *arg, const struct bus_event *ev)
{
    events_bus(arg, ev);
    if (ev->kind != BUS_EV_DONE || ev->token != looked_at)
        return;
    snprintf(found, sizeof(found), "%.*s", ev->result == BUS_OK ? (int)ev->len : 0, (const char *)ev->data);
}

/* The entry of a player, "" if there is none. */
static const char *entry(const char *player)
{
    looked_at = UINT64_C(999999999);
    snprintf(found, sizeof(found), "?");
    cr_assert_eq(bus_kv_get(bus, looked_at, "players", player, 1000), 0);
    for (int i = 0; i < 10 && strcmp(found, "?") == 0; i++) {
        bus_mem_tick(bus, now);
        bus_drain(bus, look_event, node, 100);
    }
    return found;
}

static void write_entry(const char *player, const char *gateway, const char *session, const char *secret)
{
    char text[512], hash[DIGEST_SIZE];
    digest(hash, secret, strlen(secret));
    int len = snprintf(text, sizeof(text), "{\"gateway\":\"%s\",\"session\":\"%s\",\"status\":\"online\",\"since\":\"\","
                       "\"resume\":\"%s\"}", gateway, session, hash);
    cr_assert_eq(bus_kv_put(bus, 1, "players", player, BUS_ANY_REVISION, text, (size_t)len, 1000), 0);
    run(50, 10);
}

Test(node_presence, stands_in_the_registry_as_long_as_it_lives)
{
    hello(1, "ann", NULL);
    run(100, 10);
    cr_assert_eq(told[1].op, WIRE_OP_WELCOME);
    cr_assert(strstr(entry("ann"), "\"gateway\":\"a\""), "%s", found);
    run(INT64_C(3) * PRESENCE_TTL_MS, 1000);
    cr_assert(strstr(entry("ann"), "\"gateway\":\"a\""), "written anew: %s", found);
    cr_assert(!told[1].closed);
    say(1, WIRE_OP_BYE, &(struct wire_frame_bye){0});
    run(100, 10);
    cr_assert_str_eq(entry("ann"), "");
    cr_assert(told[1].closed);
    close_conn(1);
}

Test(node_presence, the_grace_period)
{
    hello(1, "ann", NULL);
    run(100, 10);
    close_conn(1);
    run(29000, 100);
    cr_assert(entry("ann")[0]);
    hello(2, "ann", told[1].resume);
    run(100, 10);
    cr_assert(told[2].op == WIRE_OP_WELCOME && told[2].resumed);
    close_conn(2);
    run(31000, 100);
    cr_assert_str_eq(entry("ann"), "");
    hello(3, "ann", told[1].resume);
    run(100, 10);
    cr_assert(told[3].op == WIRE_OP_WELCOME && !told[3].resumed);
    cr_assert_eq(node->sessions.count, 1);
    cr_assert_eq(node->away, 0);
}

/* Another gateway has the player by now: this one lets go as soon as it looks. */
Test(node_presence, lost_to_others)
{
    hello(1, "ann", NULL);
    hello(2, "bob", NULL);
    run(100, 10);
    char session[ID_SIZE];
    snprintf(session, sizeof(session), "%.*s", (int)strcspn(told[1].resume, "."), told[1].resume);
    write_entry("ann", "b", session, "x"); /* she has gone on there */
    write_entry("bob", "b", "another", "x"); /* he has logged in there */
    presence_verify(node);
    run(1000, 10);
    cr_assert(told[1].closed && told[1].op == WIRE_OP_WELCOME, "she is not told: it is her session");
    cr_assert(told[2].closed && strcmp(told[2].word, "replaced") == 0);
    cr_assert_eq(node->sessions.count, 0);
    cr_assert(strstr(entry("ann"), "\"b\"") && strstr(entry("bob"), "\"b\""));
}

/* Its gateway is not to be asked: what is written down of it does. */
Test(node_presence, from_a_dead_gateway)
{
    const char *token = "S1.0123456789abcdef0123456789abcdef";
    write_entry("ann", "dead", "S1", token + 3);
    hello(1, "ann", "S1.0123456789abcdef0123456789abcdee");
    run(200, 10);
    cr_assert(told[1].op == WIRE_OP_WELCOME && !told[1].resumed, "with a wrong secret it is a new session");
    write_entry("ann", "dead", "S1", token + 3);
    hello(2, "ann", token);
    run(200, 10);
    cr_assert(told[2].resumed);
    cr_assert(strstr(entry("ann"), "\"session\":\"S1\"") && strstr(found, "\"gateway\":\"a\""), "%s", found);
}

/* ---- the login policy `reject` ---- */

Test(node_presence, who_is_connected_stays)
{
    node->config.login_reject = true;
    hello(1, "ann", NULL);
    run(100, 10);
    hello(2, "ann", NULL);
    run(100, 10);
    cr_assert(told[2].closed && strcmp(told[2].word, "already_connected") == 0, "%s", told[2].word);
    cr_assert(!told[1].closed);
    close_conn(1); /* its session waits for it, and stands in nobody's way */
    hello(3, "ann", NULL);
    run(100, 10);
    cr_assert(told[3].op == WIRE_OP_WELCOME && !told[3].resumed);
    cr_assert_eq(node->sessions.count, 1);
    cr_assert_eq(node->away, 0);
    hello(4, "ann", told[1].resume);
    run(100, 10);
    cr_assert_str_eq(told[4].word, "already_connected");
    hello(5, "ann", told[3].resume);
    run(100, 10);
    cr_assert(told[5].resumed && told[3].closed, "its own session, over another connection");
    cr_assert_eq(node->arrivals.count, 0);
}

Test(node_presence, one_of_many_at_once_stays)
{
    int welcome = 0;
    node->config.login_reject = true;
    for (uint64_t conn = 1; conn <= 12; conn++)
        hello(conn, "ann", NULL);
    run(5000, 10);
    for (uint64_t conn = 1; conn <= 12; conn++) {
        welcome += told[conn].op == WIRE_OP_WELCOME && !told[conn].closed;
        cr_assert(!told[conn].closed || strcmp(told[conn].word, "already_connected") == 0);
    }
    cr_assert_eq(welcome, 1);
    cr_assert_eq(node->arrivals.count, 0);
}

/* One that is not listed is gone; one that is, and says nothing, is waited for, but not for ever. */
Test(node_presence, a_silent_gateway_stands_in_the_way_for_a_time)
{
    static const char up[] = "{\"boot\":\"01J9ZB00T00000000000000000\",\"address\":\"\",\"port\":0,\"region\":\"\",\"status\":\"up\","
                             "\"rooms\":0,\"players\":0,\"connections\":0,\"capacity\":10,\"load\":0,\"version\":\"0\","
                             "\"seen\":\"\",\"started\":\"\"}";
    node->config.login_reject = true;
    write_entry("ann", "dead", "S1", "x");
    hello(1, "ann", NULL);
    run(200, 10);
    cr_assert_eq(told[1].op, WIRE_OP_WELCOME);
    cr_assert_eq(bus_kv_put(bus, 1, "servers", "b", BUS_ANY_REVISION, up, sizeof(up) - 1, 1000), 0);
    write_entry("bob", "b", "S2", "x");
    cr_assert_not_null(view_server(core_view(node->core), "b"));
    hello(2, "bob", NULL);
    run(300, 10);
    cr_assert_eq(told[2].op, 0, "%d", told[2].op);
    run(6000, 10);
    cr_assert_eq(told[2].op, WIRE_OP_WELCOME);
    cr_assert(strstr(entry("bob"), "\"gateway\":\"a\""), "%s", found);
}

/* An operator has ended the session while its gateway could not be asked. */
Test(node_presence, kicked_by_the_entry)
{
    static const char over[] = "{\"gateway\":\"a\",\"session\":\"kicked-1\",\"status\":\"kicked\",\"since\":\"\","
                               "\"replaced\":\"%.*s\"}";
    char text[512];
    node->config.login_reject = true;
    hello(1, "ann", NULL);
    run(100, 10);
    int len = snprintf(text, sizeof(text), over, (int)strcspn(told[1].resume, "."), told[1].resume);
    cr_assert_eq(bus_kv_put(bus, 1, "players", "ann", BUS_ANY_REVISION, text, (size_t)len, 1000), 0);
    presence_verify(node);
    run(1000, 10);
    cr_assert(told[1].closed && strcmp(told[1].word, "kicked") == 0, "%s", told[1].word);
    hello(2, "ann", told[1].resume);
    run(100, 10);
    cr_assert(told[2].closed && strcmp(told[2].word, "kicked") == 0, "%s", told[2].word);
    hello(3, "ann", NULL);
    run(100, 10);
    cr_assert_eq(told[3].op, WIRE_OP_WELCOME);
    cr_assert(strstr(entry("ann"), "\"status\":\"online\""), "%s", found);
}

/* It is ended while its player takes it up again: it does not come back. */
Test(node_presence, ended_while_it_was_taken_up)
{
    write_entry("bob", "dead", "S1", "0123456789abcdef0123456789abcdef");
    hello(1, "bob", "S1.0123456789abcdef0123456789abcdef");
    cr_assert_eq(bus_kv_delete(bus, 1, "players", "bob", BUS_ANY_REVISION, 1000), 0);
    run(200, 10);
    cr_assert_eq(told[1].op, WIRE_OP_WELCOME);
    cr_assert(!told[1].resumed && strncmp(told[1].resume, "S1.", 3) != 0, "%s", told[1].resume);
    cr_assert(strstr(entry("bob"), "\"status\":\"online\""), "%s", found);
}

/* What is not an entry keeps nobody out. */
Test(node_presence, junk_in_the_registry)
{
    cr_assert_eq(bus_kv_put(bus, 1, "players", "ann", BUS_ANY_REVISION, "no entry", 8, 1000), 0);
    cr_assert_eq(bus_kv_put(bus, 2, "sessions", "S1", BUS_ANY_REVISION, "{\"player\":7}", 12, 1000), 0);
    run(50, 10);
    hello(1, "ann", NULL);
    run(200, 10);
    cr_assert_eq(told[1].op, WIRE_OP_WELCOME);
    cr_assert(strstr(entry("ann"), "\"gateway\":\"a\""), "%s", found);
    write_entry("bob", "dead", "S1", "0123456789abcdef0123456789abcdef");
    hello(2, "bob", "S1.0123456789abcdef0123456789abcdef");
    run(200, 10);
    cr_assert(told[2].resumed, "without rooms");
}

/* Twelve at once on one node: one is left, the others were told. */
Test(node_presence, the_newest_wins)
{
    int alive = 0;
    for (uint64_t conn = 1; conn <= 12; conn++)
        hello(conn, "ann", NULL);
    run(5000, 10);
    for (uint64_t conn = 1; conn <= 12; conn++) {
        alive += !told[conn].closed;
        cr_assert(!told[conn].closed || strcmp(told[conn].word, "replaced") == 0);
    }
    cr_assert_eq(alive, 1);
    cr_assert_eq(node->sessions.count, 1);
    cr_assert_eq(node->arrivals.count, 0);
    cr_assert_eq(node->arriving.count, 0);
}

/* Gone before they are welcome: nothing of them stays. */
Test(node_presence, gone_while_arriving)
{
    for (uint64_t conn = 1; conn <= 5; conn++) {
        hello(conn, "ann", NULL);
        for (uint64_t turns = 1; turns < conn; turns++) {
            bus_mem_tick(bus, now);
            node_turn(node, now, wall);
        }
        if (umap_get(&node->arriving, conn))
            close_conn(conn);
        else
            say(conn, WIRE_OP_BYE, &(struct wire_frame_bye){0});
        run(500, 10);
        cr_assert_str_eq(entry("ann"), "");
        cr_assert_eq(node->sessions.count, 0);
        cr_assert_eq(node->arrivals.count, 0);
    }
}
