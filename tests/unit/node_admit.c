/*
 * Tokens seen from the node, on virtual time: who is let in before and after the list of revoked tokens is known, sessions
 * that end with their tokens, and the list at its limit. Tokens are signed here with GnuTLS; the gate notes what it is told.
 */
#include <criterion/criterion.h>
#include <gnutls/crypto.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "bus/bus_mem.h"
#include "node/state.h"
#include "node_quiet.h"

enum { CONNS = 4096, LIMIT = 100000, EVENTS_MAX = 1 << 20, AT_ONCE = 512 };
static const char secret[] = "thirty-two bytes, and some more.";
static const int64_t began_s = 1700000000;

static struct alloc_budget memory;
static struct bus *bus;
static struct types *types;
static struct node *node;
static struct login *login;
static struct mono now;
static struct wall wall;
static bool was_ready;

static struct told {
    int op;
    bool closed;
    char word[32]; /* of an error, a kick */
} told[CONNS];
static int ended_in_turn, most_ended;

static void note(uint64_t conn, const void *data, size_t len)
{
    struct wire_frame_error e;
    struct wire_frame_kicked k;
    struct told *t = &told[conn];
    t->op = wire_peek_op(data, len);
    if (t->op == WIRE_OP_ERROR && wire_frame_error_unpack(&e, data, len, NULL) == 0)
        snprintf(t->word, sizeof(t->word), "%.*s", (int)e.code.len, e.code.data);
    if (t->op == WIRE_OP_KICKED && wire_frame_kicked_unpack(&k, data, len, NULL) == 0)
        snprintf(t->word, sizeof(t->word), "%.*s", (int)k.reason.len, k.reason.data);
}

static void out_send(void *arg, uint64_t conn, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
    note(conn, head, head_len);
}

static void out_close(void *arg, uint64_t conn, const char *reason, const void *final, size_t final_len)
{
    if (final_len)
        note(conn, final, final_len);
    cr_assert(!told[conn].closed, "closed twice");
    told[conn].closed = true;
    ended_in_turn++;
}

static void out_ready(void *arg)
{
    was_ready = true;
}

static void turn(void)
{
    bool more = true;
    bus_mem_tick(bus, now);
    while (more) {
        ended_in_turn = 0;
        more = node_turn(node, now, wall);
        most_ended = ended_in_turn > most_ended ? ended_in_turn : most_ended;
    }
}

static void run(int64_t ms)
{
    for (int64_t t = 0; t < ms; t += 10) {
        now = mono_add_ms(now, 10);
        wall.ms += 10;
        turn();
    }
}

static void setup(void)
{
    struct node_out out = node_quiet;
    struct node_config config;
    struct err_detail detail = {{0}};
    char path[64], k[64];
    out.send = out_send;
    out.close = out_close;
    out.ready = out_ready;
    snprintf(path, sizeof(path), "/tmp/roomd-admit-%d", (int)getpid());
    FILE *f = fopen(path, "w");
    base64_text((const uint8_t *)secret, 32, k);
    k[strcspn(k, "=")] = 0; /* no + nor / is in it */
    cr_assert(f && fprintf(f, "{\"keys\":[{\"kty\":\"oct\",\"k\":\"%s\"}]}", k) > 0);
    fclose(f);
    cr_assert_eq(login_open(&(struct login_config){.path = path}, &login, &detail), 0, "%s", detail.text);
    unlink(path);
    memset(told, 0, sizeof(told));
    was_ready = false;
    most_ended = 0;
    now = (struct mono){1000000};
    wall = (struct wall){began_s * 1000};
    alloc_budget_init(&memory, &alloc_libc, SIZE_MAX);
    bus = bus_mem_create(&memory.alloc, now, EVENTS_MAX);
    types = types_create(&memory.alloc);
    node_config_defaults(&config);
    config.core.alloc = &memory.alloc;
    config.core.self.capacity = 10;
    config.types = types;
    config.login = login;
    id_set(&config.core.self.id, "a");
    node = node_create(&config, bus, &out, now, wall);
    cr_assert_not_null(node);
}

static void teardown(void)
{
    node_destroy(node);
    types_destroy(types);
    bus_mem_destroy(bus);
    login_close(login);
    cr_assert_eq(memory.used_bytes, 0);
}

TestSuite(node_admit, .init = setup, .fini = teardown, .timeout = 60);

static void part(char *at, const void *data, size_t len)
{
    char text[1024];
    base64_text(data, len, text);
    for (char *p = text; *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p == '=' ? 0 : *p;
    strcat(at, text);
}

/* Says hello with a token for the player that lasts until `exp`, on a connection of its own; what it was told. */
static const struct told *hello(uint64_t conn, const char *player, const char *jti, int64_t exp)
{
    char token[2048] = "", body[256];
    uint8_t mac[32];
    struct buf b;
    struct wire_frame_hello m = {.v = 1};
    snprintf(body, sizeof(body), "{\"sub\":\"%s\",\"%s\":\"%s\",\"exp\":%lld}", player, *jti ? "jti" : "none", jti,
             (long long)exp);
    part(token, "{\"alg\":\"HS256\"}", 15);
    strcat(token, ".");
    part(token, body, strlen(body));
    cr_assert_eq(gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, 32, token, strlen(token), mac), 0);
    strcat(token, ".");
    part(token, mac, sizeof(mac));
    id_set(&m.player, player);
    m.token = wire_str(token);
    buf_init(&b, &memory.alloc, 1 << 20);
    cr_assert_eq(codec_pack(codec_by_op(WIRE_OP_HELLO), &m, &b), 0);
    told[conn] = (struct told){0};
    node_frame(node, conn, NODE_MSGPACK, b.data, b.len, now, wall);
    buf_deinit(&b);
    for (int turns = 0; turns < 10 && umap_get(&node->arriving, conn); turns++)
        turn(); /* until the registry has named him */
    return &told[conn];
}

static void let_in(uint64_t conn, const char *player, const char *jti)
{
    const struct told *t = hello(conn, player, jti, began_s + 1000000);
    cr_expect(t->op == WIRE_OP_WELCOME && !t->closed, "%s: op %d '%s'", player, t->op, t->word);
}

static void refused(uint64_t conn, const char *player, const char *jti, const char *code)
{
    const struct told *t = hello(conn, player, jti, began_s + 1000000);
    cr_expect(t->op == WIRE_OP_ERROR && t->closed && strcmp(t->word, code) == 0, "%s: op %d '%s'", player, t->op, t->word);
}

static void kicked(uint64_t conn, const char *reason)
{
    const struct told *t = &told[conn];
    cr_expect(t->op == WIRE_OP_KICKED && t->closed && strcmp(t->word, reason) == 0, "%d: op %d '%s'", (int)conn, t->op,
              t->word);
}

static void put_revoked(const char *key, const char *value)
{
    cr_assert_eq(bus_kv_put(bus, 1, "revoked", key, BUS_ANY_REVISION, value, strlen(value), 1000), 0);
}

static void told_by_bus(enum bus_event_kind kind, const char *key)
{
    struct bus_event ev = {.kind = kind, .bucket = "revoked", .key = key, .data = (const uint8_t *)"{}", .len = 2};
    revoked_event(node, &ev);
}

Test(node_admit, nobody_before_the_list_is_known)
{
    refused(1, "ann", "t", "unavailable");
    for (int i = 0; i < 100 && !was_ready; i++) {
        run(10);
        cr_expect(node->revoked.known || !was_ready);
    }
    cr_assert(was_ready);
    let_in(2, "ann", "t");
    cr_expect_eq(node->sessions.count, 1);
}

Test(node_admit, ready_is_said_when_the_list_is_known)
{
    for (int i = 0; i < 50; i++) { /* as if it took longer than the registry */
        run(10);
        node->revoked.known = false;
    }
    cr_assert(core_may_serve(node->core) && !was_ready);
    refused(1, "ann", "t", "unavailable");
    told_by_bus(BUS_EV_SYNC, NULL);
    told_by_bus(BUS_EV_SYNCED, NULL);
    cr_expect(was_ready);
    let_in(2, "ann", "t");
}

Test(node_admit, sessions_end_with_their_tokens)
{
    run(500);
    hello(1, "ann", "1", began_s + 10);
    hello(2, "bob", "2", began_s + 20);
    hello(3, "joe", "3", began_s + 10);
    run(9400);
    cr_expect_eq(node->sessions.count, 3);
    run(400);
    kicked(1, "token_expired");
    kicked(3, "token_expired");
    cr_expect(told[2].op == WIRE_OP_WELCOME && node->sessions.count == 1);
    run(10000);
    kicked(2, "token_expired");
    cr_expect(node->sessions.count == 0 && node->admission.first_expiry.ms == 0);
    cr_expect(strcmp(hello(1, "ann", "1", began_s + 10)->word, "token_expired") == 0);
}

/* Thousands at once are ended in portions: the loop goes on meanwhile. */
Test(node_admit, many_end_at_once)
{
    run(500);
    for (int i = 1; i < CONNS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%d", i);
        cr_assert_eq(hello((uint64_t)i, name, "t", began_s + 5 + i % 2 * 100)->op, WIRE_OP_WELCOME);
    }
    run(6000);
    cr_expect_eq(node->sessions.count, CONNS / 2);
    cr_expect(most_ended > 1 && most_ended <= AT_ONCE, "%d in one turn", most_ended);
    put_revoked("t", "{}");
    run(1000);
    cr_expect_eq(node->sessions.count, 0);
    cr_expect_leq(most_ended, AT_ONCE);
    for (int i = 1; i < CONNS; i++)
        kicked((uint64_t)i, i % 2 ? "revoked" : "token_expired");
}

Test(node_admit, what_an_entry_says)
{
    static const struct {
        const char *key, *value;
        bool in_force;
    } rows[] = {
        {"j0", "{}", true},
        {"player.p1", "{\"reason\":\"x\"}", true},
        {"j2", "{\"until\":\"2023-11-15T00:00:00Z\"}", true}, /* it is the 14th */
        {"j3", "{\"until\":\"2023-11-14T00:00:00Z\"}", false},
        {"j4", "{\"until\":\"tomorrow\"}", true},
        {"j5", "nonsense", true},
        {"j6", "", true},
        {"j7", "[]", true},
        {"J8", "{}", false},
        {"p9", "{}", false},
        {"player.j10", "{}", false},
    };
    const int count = sizeof(rows) / sizeof(rows[0]);
    run(500);
    for (int i = 0; i < count; i++) {
        char name[8], jti[8];
        snprintf(name, sizeof(name), "p%d", i);
        snprintf(jti, sizeof(jti), "j%d", i);
        let_in((uint64_t)i + 1, name, jti);
    }
    let_in(100, "none", "");
    for (int i = 0; i < count; i++)
        put_revoked(rows[i].key, rows[i].value);
    run(500);
    for (int i = 0; i < count; i++) {
        char name[8], jti[8];
        snprintf(name, sizeof(name), "p%d", i);
        snprintf(jti, sizeof(jti), "j%d", i);
        if (!rows[i].in_force) {
            cr_expect(told[i + 1].op == WIRE_OP_WELCOME, "%s %s", rows[i].key, rows[i].value);
            continue;
        }
        kicked((uint64_t)i + 1, "revoked");
        refused((uint64_t)i + 1, name, jti, "token_revoked");
        cr_assert_eq(bus_kv_delete(bus, 1, "revoked", rows[i].key, BUS_ANY_REVISION, 1000), 0);
    }
    cr_expect_eq(told[100].op, WIRE_OP_WELCOME);
    run(500);
    for (int i = 0; i < count; i++) {
        char name[8], jti[8];
        snprintf(name, sizeof(name), "p%d", i);
        snprintf(jti, sizeof(jti), "j%d", i);
        let_in((uint64_t)i + 200, name, jti);
    }
}

/* One more than the node holds: nobody new comes in, those who are in stay, and it ends with the next listing. */
Test(node_admit, the_list_at_its_limit)
{
    run(500);
    let_in(1, "ann", "good");
    for (int i = 0; i < LIMIT; i++) {
        char key[16];
        snprintf(key, sizeof(key), "r%d", i);
        put_revoked(key, "{}");
        if (i % 1000 == 0)
            turn();
    }
    run(100);
    cr_assert_eq(node->revoked.entries.count, LIMIT);
    let_in(2, "bob", "good");
    put_revoked("r100000", "{}");
    run(100);
    cr_expect_eq(node->revoked.entries.count, LIMIT);
    refused(3, "joe", "r100000", "unavailable");
    refused(4, "kim", "good", "unavailable");
    cr_expect_eq(node->sessions.count, 2);
    run(65000); /* a listing has passed: it is still one too many */
    refused(5, "kim", "good", "unavailable");
    cr_assert_eq(bus_kv_delete(bus, 1, "revoked", "r7", BUS_ANY_REVISION, 1000), 0);
    run(65000);
    let_in(6, "kim", "good");
    let_in(7, "joe", "r7");
}

/* What vanished while nobody could say so is gone after the next listing, and not before; what is kept stays. */
Test(node_admit, listings)
{
    run(500);
    told_by_bus(BUS_EV_SYNC, NULL);
    told_by_bus(BUS_EV_ENTRY, "one");
    told_by_bus(BUS_EV_ENTRY, "two");
    told_by_bus(BUS_EV_SYNCED, NULL);
    refused(1, "ann", "one", "token_revoked");
    refused(2, "ann", "two", "token_revoked");
    told_by_bus(BUS_EV_SYNC, NULL);
    told_by_bus(BUS_EV_KEPT, "two");
    refused(1, "ann", "one", "token_revoked");
    told_by_bus(BUS_EV_SYNCED, NULL);
    let_in(1, "ann", "one");
    refused(2, "ann", "two", "token_revoked");
    told_by_bus(BUS_EV_SYNC, NULL);
    told_by_bus(BUS_EV_KEPT, "three"); /* there was no memory for it when it was told */
    told_by_bus(BUS_EV_SYNCED, NULL);
    refused(3, "ann", "four", "unavailable");
}
