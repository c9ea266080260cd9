/*
 * Requests to services seen from inside of the node, over a bus in memory: limits, ends and lost memory.
 *
 * Behind the service is this test: it listens, so that a request finds somebody, and answers by the names of the bus's inboxes.
 */
#include <criterion/criterion.h>

#include <stdio.h>

#include "bus/bus_mem.h"
#include "node/route.h"
#include "node_quiet.h"

enum { SUB_TEST = 900, SUB_PINGS = 901, INBOXES = 200 };

static struct alloc_budget memory;
static struct bus *bus;
static struct types *types;
static struct routes routes;
static struct node *node;
static struct mono now;
static const struct wall wall = {1700000000000};

static struct {
    uint64_t conn;
    int op;
    int64_t id;
    char code[40];
} last;
static unsigned answers;

static void out_send(void *arg, uint64_t conn, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
    struct wire_frame_error e;
    struct wire_frame_reply r;
    last.op = wire_peek_op(head, head_len);
    last.conn = conn;
    last.code[0] = 0;
    answers += last.op == WIRE_OP_ERROR || last.op == WIRE_OP_REPLY;
    if (last.op == WIRE_OP_ERROR && wire_frame_error_unpack(&e, head, head_len, NULL) == 0) {
        snprintf(last.code, sizeof(last.code), "%.*s", (int)e.code.len, e.code.data);
        last.id = e.id;
    } else if (last.op == WIRE_OP_REPLY && wire_frame_reply_unpack(&r, head, head_len, NULL) == 0) {
        last.id = r.id;
    }
}

static void run(int ms)
{
    for (int t = 0; t < ms; t += 10) {
        now = mono_add_ms(now, 10);
        bus_mem_tick(bus, now);
        node_turn(node, now, wall);
    }
}

static void setup(void)
{
    struct node_config config;
    struct node_out out = node_quiet;
    struct err_detail detail;
    out.send = out_send;
    now = (struct mono){1000000};
    answers = 0;
    routes = (struct routes){0};
    cr_assert_eq(routes_add(&routes, "one=svc,timeout=1s", &detail), 0);
    cr_assert_eq(routes_add(&routes, "all=svc,to=all,timeout=1s", &detail), 0);
    cr_assert_eq(routes_add(&routes, "none=nobody", &detail), 0);
    alloc_budget_init(&memory, &alloc_libc, SIZE_MAX);
    bus = bus_mem_create(&alloc_libc, now, 0);
    types = types_create(&memory.alloc);
    node_config_defaults(&config);
    config.core.alloc = &memory.alloc;
    config.core.self.capacity = 10;
    config.types = types;
    config.routes = &routes;
    config.rate_requests = 0;
    id_set(&config.core.self.id, "a");
    node = node_create(&config, bus, &out, now, wall);
    cr_assert_not_null(node);
    run(500);
    cr_assert_eq(bus_subscribe(bus, SUB_TEST, "svc.svc.*"), 0);
}

static void teardown(void)
{
    node_destroy(node);
    types_destroy(types);
    bus_mem_destroy(bus);
    cr_assert_eq(memory.used_bytes, 0, "%zu bytes are left", memory.used_bytes);
}

TestSuite(node_route, .init = setup, .fini = teardown, .timeout = 60);

static void say(uint64_t conn, int op, const void *message)
{
    uint8_t bytes[512];
    struct buf b = {.data = bytes, .cap = sizeof(bytes), .max = sizeof(bytes), .alloc = &alloc_libc};
    cr_assert_eq(codec_pack(codec_by_op(op), message, &b), 0);
    node_frame(node, conn, NODE_MSGPACK, bytes, b.len, now, wall);
}

static void hello(uint64_t conn)
{
    struct wire_frame_hello m = {.v = 1};
    char name[24];
    snprintf(name, sizeof(name), "p%d", (int)conn);
    id_set(&m.player, name);
    say(conn, WIRE_OP_HELLO, &m);
    for (int turns = 0; turns < 10 && umap_get(&node->arriving, conn); turns++) { /* until the registry has named him */
        bus_mem_tick(bus, now);
        node_turn(node, now, wall);
    }
}

static void ask(uint64_t conn, int64_t id, const char *route)
{
    struct wire_frame_request m = {.id = id, .route = wire_str(route), .data = {(const uint8_t *)"\x07", 1}};
    say(conn, WIRE_OP_REQUEST, &m);
}

static void announce(const char *text)
{
    cr_assert_eq(bus_publish(bus, "server.a.svc", NULL, text, strlen(text)), 0);
    run(10);
}

static void known(const char *instance)
{
    char text[120];
    snprintf(text, sizeof(text), "{\"service\":\"svc\",\"instance\":\"%s\"}", instance);
    announce(text);
}

/* To whatever is open on the bus. */
static void answer_all(const char *text)
{
    for (int i = 1; i < INBOXES; i++) {
        char inbox[40];
        snprintf(inbox, sizeof(inbox), "_INBOX.mem.%d", i);
        (void)bus_publish(bus, inbox, NULL, text, strlen(text));
    }
    run(20);
}

Test(node_route, what_ends_with_its_session_harms_nobody)
{
    hello(1);
    hello(2);
    ask(1, 1, "one"); /* waits for an instance */
    ask(1, 2, "all");
    ask(2, 1, "one");
    cr_assert_eq(node->router->waiting, 3);
    node_closed(node, 1, "gone", now, wall);
    cr_assert_eq(node->router->waiting, 1);
    known("i1");
    cr_assert_eq(node->router->waiting, 0);
    cr_assert_eq(node->router->backends[0]->pool.items[0].open, 1);
    node_closed(node, 2, "gone", now, wall);
    cr_assert_eq(node->router->open.count, 1, "it runs there");
    answer_all("7");
    cr_assert_eq(node->router->open.count, 0);
    cr_assert_eq(node->router->backends[0]->pool.items[0].open, 0);
    cr_assert_eq(node->router->bytes + node->router->kept_bytes, 0);
    cr_assert_eq(answers, 0);
    hello(3);
    ask(3, 1, "one"); /* open when the node is freed */
    ask(3, 2, "all");
}

Test(node_route, nobody_silence_and_garbage_have_their_own_ends)
{
    hello(1);
    ask(1, 1, "none");
    run(20);
    cr_assert_str_eq(last.code, "no_service");
    ask(1, 2, "one");
    run(BACKEND_HOLD_MS + 100); /* nobody answered the ping: whoever is there */
    run(1000);
    cr_assert(strcmp(last.code, "unresponsive") == 0 && last.id == 2, "%s", last.code);
    static const char *const garbage[] = {"", "7", "{}", "{\"service\":\"svc\"}", "{\"service\":\"svc\",\"instance\":\"all\"}",
                                          "{\"service\":\"other\",\"instance\":\"x\"}", "{\"service\":\"svc\",\"instance\":\"a b\"}"};
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++)
        announce(garbage[i]);
    cr_assert_eq(node->router->backends[0]->pool.count, 0);
    known("i1");
    ask(1, 3, "one");
    run(1100);
    cr_assert_str_eq(last.code, "unresponsive");
    ask(1, 4, "one");
    for (int t = 0; t < 22; t++) {
        run(50);
        known("i1");
    }
    cr_assert_str_eq(last.code, "timeout", "it answers pings");
    answers = 0;
    answer_all("7");
    cr_assert_eq(answers, 0, "too late");
    ask(1, 5, "one");
    answer_all("nonsense");
    cr_assert_str_eq(last.code, "bad_reply");
    ask(1, 6, "one");
    answer_all("{\"error\":{\"code\":\"no\"}}");
    cr_assert_str_eq(last.code, "service_error");
    ask(1, 7, "one");
    answer_all("{\"error\":{\"code\":\"no\"},\"more\":1}");
    cr_assert(last.op == WIRE_OP_REPLY && last.id == 7);
}

Test(node_route, a_first_answer_may_take_its_time)
{
    hello(1);
    hello(2);
    ask(1, 1, "one");
    ask(2, 1, "all");
    run(BACKEND_HOLD_MS + 300);
    cr_assert_eq(node->router->waiting, 2);
    answers = 0;
    known("i1");
    run(60);
    cr_assert_eq(node->router->waiting, 0);
    answer_all("1");
    cr_assert(answers == 2 && last.op == WIRE_OP_REPLY);
    node->router->backends[0]->pool.count = 0;
    ask(1, 2, "one");
    ask(2, 2, "all");
    run(900);
    cr_assert_eq(answers, 2);
    run(200);
    cr_assert_eq(answers, 4);
    cr_assert_str_eq(last.code, "unresponsive");
    cr_assert_eq(bus_unsubscribe(bus, SUB_TEST), 0);
    ask(1, 3, "one");
    run(50);
    cr_assert_str_eq(last.code, "no_service");
}

Test(node_route, after_a_pause_only_who_answers_again_is_asked)
{
    const struct backend *b = node->router->backends[0];
    hello(1);
    ask(1, 1, "one");
    known("i1");
    known("i2");
    answer_all("1");
    for (int t = 0; b->in_use; t += 200) {
        cr_assert_lt(t, 2 * BACKEND_IDLE_MS);
        run(200);
        known("i1");
        known("i2");
    }
    for (int64_t id = 2; id < 6; id++)
        ask(1, id, "one");
    cr_assert_eq(node->router->waiting, 4);
    known("i2");
    cr_assert(service_find(&b->pool, "i1")->open == 0 && service_find(&b->pool, "i2")->open == 4);
    known("i1");
    ask(1, 6, "one");
    cr_assert_eq(service_find(&b->pool, "i1")->open, 1);
}

Test(node_route, an_answer_ends_the_wait_for_a_ping)
{
    const struct backend *b = node->router->backends[0];
    hello(1);
    ask(1, 1, "one");
    known("i1");
    answers = 0;
    run(800);
    ask(1, 2, "one");
    cr_assert(b->asking && node->router->waiting == 1, "i1 answers no pings");
    for (int i = 1; i < INBOXES && answers == 0; i++) {
        char inbox[40];
        snprintf(inbox, sizeof(inbox), "_INBOX.mem.%d", i);
        cr_assert_eq(bus_publish(bus, inbox, NULL, "1", 1), 0);
        node_turn(node, now, wall);
    }
    cr_assert(answers == 1 && last.id == 1 && node->router->waiting == 0);
    cr_assert_eq(service_find(&b->pool, "i1")->open, 1);
}

Test(node_route, who_comes_back_keeps_its_place_among_those_that_wait)
{
    struct backend *b = node->router->backends[0];
    hello(1);
    b->in_use = b->plain = true; /* as after an answer of the queue group, which has ended since */
    ask(1, 1, "one");
    b->plain = false;
    ask(1, 2, "one");
    cr_assert(b->first && b->first->id == 2);
    node_turn(node, now, wall);
    cr_assert(b->first && b->first->id == 1 && b->first->waiting->id == 2);
}

Test(node_route, a_session_and_a_node_have_limits)
{
    uint64_t conn = 1;
    unsigned open = 0;
    hello(conn);
    ask(conn, 1, "one");
    known("i1");
    for (int64_t id = 2; id <= ROUTE_OPEN_MAX; id++)
        ask(conn, id, "one");
    cr_assert_eq(node->router->open.count, ROUTE_OPEN_MAX);
    ask(conn, ROUTE_OPEN_MAX + 1, "one");
    cr_assert(strcmp(last.code, "rate_limited") == 0 && last.id == ROUTE_OPEN_MAX + 1);
    last.code[0] = 0;
    for (open = ROUTE_OPEN_MAX; open < ROUTE_CALLS_MAX + 100 && !last.code[0]; open++) {
        if (open % ROUTE_OPEN_MAX == 0)
            hello(++conn);
        ask(conn, open + 1, "one");
    }
    cr_assert_str_eq(last.code, "rate_limited");
    cr_assert_eq(node->router->calls.count, ROUTE_CALLS_MAX);
    run(3000);
    cr_assert_eq(node->router->calls.count, 0, "all had their time");
    hello(++conn);
    ask(conn, 1, "none");
    run(20);
    cr_assert_str_eq(last.code, "no_service");
}

Test(node_route, answers_are_kept_within_bounds)
{
    hello(1);
    ask(1, 1, "one");
    known("i1");
    answer_all("1");
    const struct session *s = umap_get(&node->conns, 1);
    for (int64_t id = 2; id < 100; id++) {
        char text[4100];
        memset(text, 'x', sizeof(text));
        text[0] = text[sizeof(text) - 2] = '"';
        text[sizeof(text) - 1] = 0;
        ask(1, id, "one");
        answer_all(text);
        cr_assert(s->asks->kept <= ROUTE_KEPT_MAX && s->asks->kept_bytes <= ROUTE_KEPT_BYTES);
    }
    cr_assert_eq(s->asks->kept, ROUTE_KEPT_BYTES / 4106);
    answers = 0;
    ask(1, 99, "one");
    cr_assert(answers == 1 && last.op == WIRE_OP_REPLY && last.id == 99);
    ask(1, 3, "one");
    cr_assert_str_eq(last.code, "already");
    node_closed(node, 1, "gone", now, wall);
    cr_assert_eq(node->router->kept_bytes, 0);
}

/* Each request of memory on the way of a request to its answer fails once: the client hears something, and nothing is lost. */
Test(node_route, lost_memory_costs_a_request_at_the_most)
{
    hello(1);
    ask(1, 1, "one");
    known("i1");
    known("i2");
    answer_all("1");
    int64_t id = 1;
    for (long fail = 0; fail < 40; fail++) {
        for (int all = 0; all < 2; all++) {
            answers = 0;
            memory.fail_after = fail;
            ask(1, ++id, all ? "all" : "one");
            memory.fail_after = -1;
            answer_all("1");
            run(1100);
            cr_assert_leq(answers, 1);
            cr_assert(node->router->open.count == 0 && node->router->calls.count == 0 && node->router->bytes == 0);
        }
    }
    answers = 0;
    known("i1");
    ask(1, ++id, "one");
    answer_all("1");
    cr_assert(answers == 1 && last.op == WIRE_OP_REPLY);
}
