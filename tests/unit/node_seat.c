/*
 * Seats seen from the node: players here and on another node, in rooms here and there, when something goes wrong halfway.
 *
 * The other node `b` is its registry entry and what it writes on the link; what the node under test says to it is read from
 * what waits there for an acknowledgement. Freed memory is overwritten, so that whoever still looks at it fails.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

#include "bus/bus_mem.h"
#include "node/state.h"
#include "node_quiet.h"

enum { SENT_MAX = 64 };

static struct alloc_budget memory;
static struct bus *bus;
static struct types *types;
static struct node *node;
static struct mono now;
static const struct wall wall = {1700000000000};
static int64_t cpu;
static uint64_t link_seq;

static struct sent {
    uint64_t conn;
    int op;
    size_t len;
    uint8_t data[1024];
} sent[SENT_MAX];
static size_t sent_count;

static void *overwriting(void *arg, void *ptr, size_t old, size_t size)
{
    void *fresh = size ? malloc(size) : NULL;
    if (ptr && (fresh || !size)) {
        if (fresh)
            memcpy(fresh, ptr, old < size ? old : size);
        memset(ptr, 0xdd, old);
        __asm__ volatile("" ::"r"(ptr) : "memory"); /* or the compiler leaves it out */
        free(ptr);
    }
    return fresh;
}

static const struct alloc poisoned = {overwriting, NULL};

static void out_send(void *arg, uint64_t conn, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
    struct sent *s = &sent[sent_count++ % SENT_MAX];
    s->conn = conn;
    s->op = wire_peek_op(head, head_len);
    s->len = head_len + tail_len < sizeof(s->data) ? head_len + tail_len : 0;
    if (s->len) {
        memcpy(s->data, head, head_len);
        if (tail_len)
            memcpy(s->data + head_len, tail, tail_len);
    }
}

static int64_t cpu_now(void *arg)
{
    return cpu;
}

static int slow_join(struct room *room, const char *player, const void *options, size_t len)
{
    cpu += 2000000;
    return 0;
}

static void duel_leave(struct room *room, const char *player, const char *reason)
{
    room_close(room, "won");
}

static int shy_create(struct room *room, const void *options, size_t len)
{
    room_lock(room);
    return 0;
}

static const struct room_type shy = {.api_version = ROOM_TYPE_API_VERSION, .name = "shy", .max_players = 4,
                                     .create = shy_create};
static const struct room_type slow = {.api_version = ROOM_TYPE_API_VERSION, .name = "slow", .max_players = 4,
                                      .join = slow_join};
static const struct room_type duel = {.api_version = ROOM_TYPE_API_VERSION, .name = "duel", .max_players = 4,
                                      .leave = duel_leave};

static void run(int ms)
{
    for (int t = 0; t < ms; t += 10) {
        now = mono_add_ms(now, 10);
        bus_mem_tick(bus, now);
        node_turn(node, now, wall);
    }
}

static void entry_of_b(const char *boot, const char *status)
{
    char text[256];
    int len = snprintf(text, sizeof(text),
                       "{\"boot\":\"%s\",\"address\":\"\",\"port\":0,\"region\":\"\",\"status\":\"%s\",\"rooms\":0,"
                       "\"players\":0,\"connections\":0,\"capacity\":10,\"load\":0.0,\"version\":\"1\",\"seen\":\"\","
                       "\"started\":\"\"}",
                       boot, status);
    cr_assert_eq(bus_kv_put(bus, 1, "servers", "b", BUS_ANY_REVISION, text, (size_t)len, 1000), 0);
    run(20);
}

static void setup(void)
{
    struct node_out out = node_quiet;
    out.send = out_send;
    struct node_config config;
    now = (struct mono){1000000};
    cpu = 0;
    sent_count = 0;
    link_seq = 0;
    alloc_budget_init(&memory, &poisoned, SIZE_MAX);
    bus = bus_mem_create(&memory.alloc, now, 0);
    types = types_create(&memory.alloc);
    cr_assert_eq(types_add(types, &slow, NULL), 0);
    cr_assert_eq(types_add(types, &duel, NULL), 0);
    cr_assert_eq(types_add(types, &shy, NULL), 0);
    node_config_defaults(&config);
    config.core.alloc = &memory.alloc;
    config.core.self.capacity = 10;
    config.types = types;
    config.cpu_us = cpu_now;
    id_set(&config.core.self.id, "a");
    node = node_create(&config, bus, &out, now, wall);
    cr_assert_not_null(node);
    run(500);
    cr_assert(core_may_serve(node->core));
}

static void teardown(void)
{
    node_destroy(node);
    types_destroy(types);
    bus_mem_destroy(bus);
    cr_assert_eq(memory.used_bytes, 0);
}

TestSuite(node_seat, .init = setup, .fini = teardown, .timeout = 30);

static void frame(uint64_t conn, int op, const void *message)
{
    struct buf b;
    buf_init(&b, &memory.alloc, 1 << 20);
    cr_assert_eq(codec_pack(codec_by_op(op), message, &b), 0);
    node_frame(node, conn, NODE_MSGPACK, b.data, b.len, now, wall);
    buf_deinit(&b);
}

static void hello(uint64_t conn, const char *player)
{
    struct wire_frame_hello m = {.v = 1};
    id_set(&m.player, player);
    frame(conn, WIRE_OP_HELLO, &m);
    run(20); /* until the registry has named him */
}

static void join_named(uint64_t conn, int64_t id, const char *room, const char *type)
{
    struct wire_frame_join m = {.id = id, .mode = WIRE_FRAME_JOIN_MODE_JOIN_OR_CREATE};
    id_set(&m.room_id, room);
    id_set(&m.type, type);
    frame(conn, WIRE_OP_JOIN, &m);
}

/* How many frames of this op the connection was sent. */
static int said(uint64_t conn, int op)
{
    int n = 0;
    cr_assert_leq(sent_count, SENT_MAX);
    for (size_t i = 0; i < sent_count; i++)
        n += sent[i].conn == conn && sent[i].op == op;
    return n;
}

static void batch_from_b(struct wire_link_batch *m)
{
    struct buf batch;
    buf_init(&batch, &memory.alloc, 1 << 20);
    id_set(&m->boot, "01B");
    id_set(&m->to_boot, core_self(node->core)->boot);
    id_set(&m->server, "b");
    m->link = 1;
    cr_assert_eq(wire_link_batch_pack(m, &batch), 0);
    cr_assert_eq(bus_publish(bus, "server.a.relay", NULL, batch.data, batch.len), 0);
    buf_deinit(&batch);
    run(20);
}

/* One batch with one frame, from b. */
static void from_b(int op, const void *message)
{
    struct buf frames;
    struct wire_link_batch m = {.seq = (int64_t)++link_seq};
    buf_init(&frames, &memory.alloc, 1 << 20);
    mp_write_array(&frames, 1);
    cr_assert_eq(codec_pack(codec_by_op(op), message, &frames), 0);
    m.frames = (struct wire_raw){frames.data, (uint32_t)frames.len};
    batch_from_b(&m);
    buf_deinit(&frames);
}

/* b has got all that was said to it. */
static void b_acknowledges(void)
{
    struct wire_link_batch m = {.frames = {(const uint8_t *)"\x90", 1}};
    const struct link *l = map_get(&node->links, "b");
    m.ack = (int64_t)l->next_seq - 1;
    batch_from_b(&m);
    cr_assert_null(l->first);
}

static void seat_of_b(const char *session, const char *room)
{
    struct wire_link_join m = {.request = 1};
    id_set(&m.session, session);
    id_set(&m.player, session);
    id_set(&m.room, room);
    from_b(WIRE_OP_LINK_JOIN, &m);
    cr_assert_not_null(seat_remote(node, session, room));
}

Test(node_seat, a_room_that_ends_while_a_player_joins_answers_once)
{
    hello(1, "ann");
    join_named(1, 7, "r", "slow");
    run(200);
    cr_assert_eq(said(1, WIRE_OP_JOINED), 0);
    cr_assert_eq(said(1, WIRE_OP_ERROR), 1);
    cr_assert_null(host_find(node->host, "r"));
}

Test(node_seat, a_gateway_that_dies_may_end_rooms_whose_other_players_it_held)
{
    hello(1, "ann");
    join_named(1, 7, "r", "duel");
    run(200);
    cr_assert_eq(said(1, WIRE_OP_JOINED), 1);
    entry_of_b("01B", "up");
    seat_of_b("bob", "r");
    seat_of_b("cid", "r");
    cr_assert_eq(node->remotes.count, 2);
    entry_of_b("01B", "down");
    cr_assert_eq(node->remotes.count, 0);
    cr_assert_eq(node->members.count, 0);
    cr_assert_null(host_find(node->host, "r"));
    cr_assert_eq(said(1, WIRE_OP_LEFT), 1);
}

/* What waits on the link to b for an acknowledgement: frames of this op; the last one is unpacked into `last`. */
static int told_b(int op, void *last)
{
    const struct link *l = map_get(&node->links, "b");
    int n = 0;
    for (const struct batch *b = l ? l->first : NULL; b; b = b->next) {
        struct mp_read r;
        struct wire_raw one;
        mp_read_init(&r, b->frames, b->frames_len);
        while (r.at != r.end && mp_skip(&r, WIRE_DEPTH_MAX, &one, NULL) == 0)
            if (wire_peek_op(one.data, one.len) == op) {
                n++;
                cr_assert(!last || codec_unpack(codec_by_op(op), last, one.data, one.len, NULL) == 0);
            }
    }
    return n;
}

/* The core has found a seat in room `room` at b for this player's request. */
static void seat_found_at_b(uint64_t conn, int64_t id, const char *room)
{
    struct session *s = umap_get(&node->conns, conn);
    struct request r = {.session = s->serial, .frame_id = id, .player = s->player};
    struct core_answer a = {.ticket = "t"};
    id_set(&a.room, room);
    id_set(&a.type, "relay");
    id_set(&a.server, "b");
    s->joining++;
    frames_join_result(node, 1, &r, &a);
    run(20);
}

static void b_seats(const struct wire_link_join *join)
{
    struct wire_link_joined m = {.session = join->session, .request = join->request, .room = join->room, .epoch = 1,
                                 .players = 1, .max_players = 4};
    id_set(&m.type, "relay");
    from_b(WIRE_OP_LINK_JOINED, &m);
}

static int64_t id_of_last(uint64_t conn, int op)
{
    for (size_t i = sent_count; i-- > 0;) {
        struct wire_frame_joined joined;
        struct wire_frame_error error;
        if (sent[i].conn != conn || sent[i].op != op)
            continue;
        if (op == WIRE_OP_JOINED)
            return wire_frame_joined_unpack(&joined, sent[i].data, sent[i].len, NULL) ? -1 : joined.id;
        return wire_frame_error_unpack(&error, sent[i].data, sent[i].len, NULL) ? -1 : error.id;
    }
    return -1;
}

/* So long passes that no join on a link is waited for any more (not really: b, which answers no ping, would be dead). */
static void patience_ends(uint64_t conn)
{
    const struct session *s = umap_get(&node->conns, conn);
    for (struct place *p = s->places; p; p = p->next)
        p->deadline = now;
    run(100);
}

Test(node_seat, two_joins_of_one_room_over_a_link_are_answered_each_by_its_own)
{
    struct wire_link_join first;
    entry_of_b("01B", "up");
    hello(1, "ann");
    seat_found_at_b(1, 7, "far");
    cr_assert_eq(told_b(WIRE_OP_LINK_JOIN, &first), 1);
    seat_found_at_b(1, 8, "far");
    b_seats(&first);
    cr_assert_eq(said(1, WIRE_OP_JOINED), 1);
    cr_assert_eq(id_of_last(1, WIRE_OP_JOINED), 7);
    patience_ends(1);
    cr_assert_eq(said(1, WIRE_OP_ERROR), 1, "the second is refused once, and nothing else is said");
    cr_assert_eq(id_of_last(1, WIRE_OP_ERROR), 8);
    cr_assert_eq(told_b(WIRE_OP_LINK_LEAVE, NULL), 0, "the seat that was given stays taken");
}

Test(node_seat, an_answer_to_a_join_given_up_is_not_the_answer_to_the_next_one)
{
    struct wire_link_join first, second;
    entry_of_b("01B", "up");
    hello(1, "ann");
    seat_found_at_b(1, 7, "far");
    told_b(WIRE_OP_LINK_JOIN, &first);
    patience_ends(1);
    cr_assert_eq(id_of_last(1, WIRE_OP_ERROR), 7);
    seat_found_at_b(1, 8, "far");
    cr_assert_eq(told_b(WIRE_OP_LINK_JOIN, &second), 2);
    b_seats(&first);
    cr_assert_eq(said(1, WIRE_OP_JOINED), 0, "b is about to read that this join was given up");
    b_seats(&second);
    cr_assert_eq(said(1, WIRE_OP_JOINED), 1);
    cr_assert_eq(id_of_last(1, WIRE_OP_JOINED), 8);
}

Test(node_seat, a_link_given_up_says_so_even_when_nothing_else_is_to_be_said)
{
    struct wire_link_join join;
    entry_of_b("01B", "up");
    hello(1, "ann");
    seat_found_at_b(1, 7, "far");
    told_b(WIRE_OP_LINK_JOIN, &join);
    b_seats(&join);
    struct link *l = map_get(&node->links, "b");
    l->progress = mono_add_ms(now, -60000);
    run(60);
    cr_assert_eq(said(1, WIRE_OP_LEFT), 1);
    cr_assert_not_null(l->first, "b must hear of it, or ann's seat there stays taken for ever");
    cr_assert_eq(l->first->seq, l->number);
    cr_assert_eq(l->first->count, 0);
}

Test(node_seat, a_room_that_cannot_seat_its_maker_does_not_stay_behind)
{
    hello(1, "ann");
    join_named(1, 7, "r", "shy");
    run(300);
    cr_assert_eq(said(1, WIRE_OP_ERROR), 1);
    cr_assert_null(view_room(core_view(node->core), "r"));
    cr_assert_null(host_find(node->host, "r"), "not listed, so it must not run");
}

static void scribble(const char *bucket, const char *key)
{
    cr_assert_eq(bus_kv_put(bus, 1, bucket, key, BUS_ANY_REVISION, "junk", 4, 1000), 0);
    run(20);
}

Test(node_seat, entries_overwritten_with_junk_are_written_anew)
{
    hello(1, "ann");
    join_named(1, 7, "r", "relay");
    run(300);
    cr_assert_not_null(view_room(core_view(node->core), "r"));
    scribble("rooms", "r");
    run(1000);
    cr_assert_not_null(view_room(core_view(node->core), "r"));
    scribble("servers", "a");
    run(6000);
    cr_assert_not_null(view_server(core_view(node->core), "a"));
    cr_assert(core_may_serve(node->core));
    cr_assert_eq(said(1, WIRE_OP_LEFT), 0);
}

Test(node_seat, a_loop_that_stood_still_seats_nobody_before_it_has_looked_around)
{
    hello(1, "ann");
    hello(2, "bob");
    join_named(1, 7, "r", "relay");
    run(300);
    cr_assert_eq(said(1, WIRE_OP_JOINED), 1);
    now = mono_add_ms(now, 10000);
    join_named(2, 8, "r", "relay"); /* libuv hands over what came in before the loop has its turn */
    cr_assert_eq(said(2, WIRE_OP_JOINED), 0, "the node may be superseded");
    run(300);
    join_named(2, 9, "r", "relay");
    run(300);
    cr_assert_eq(said(2, WIRE_OP_JOINED), 1);
}

static int end_message(struct room *room, const char *player, const void *data, size_t len)
{
    if (len == 1)
        return ROOM_E_INVALID;
    room_close(room, "over");
    return room_reply(room, "\x05", 1);
}

static const struct room_type final_type = {.api_version = ROOM_TYPE_API_VERSION, .name = "final", .max_players = 4,
                                            .message = end_message};

static void send_from_b(const char *session, const char *room, int64_t n, const void *data, uint32_t len)
{
    struct wire_link_send m = {.n = n, .data = {data, len}, .number = 3, .has_number = true};
    id_set(&m.session, session);
    id_set(&m.room, room);
    from_b(WIRE_OP_LINK_SEND, &m);
}

Test(node_seat, a_message_from_afar_that_ends_its_room_is_acknowledged_and_a_refused_one_is_named)
{
    struct wire_link_sent acknowledged;
    struct wire_link_error refused;
    cr_assert_eq(types_add(types, &final_type, NULL), 0);
    hello(1, "ann");
    join_named(1, 7, "r", "final");
    run(200);
    entry_of_b("01B", "up");
    seat_of_b("bob", "r");
    send_from_b("bob", "r", 8, "\x01", 1);
    cr_assert_eq(told_b(WIRE_OP_LINK_ERROR, &refused), 1);
    cr_assert(refused.has_n && refused.n == 8);
    send_from_b("bob", "r", 9, "\xa1x", 2);
    cr_assert_eq(told_b(WIRE_OP_LINK_LEFT, NULL), 1);
    cr_assert_eq(told_b(WIRE_OP_LINK_SENT, &acknowledged), 1);
    cr_assert(acknowledged.n == 9 && acknowledged.number == 3 && acknowledged.epoch > 0);
}

Test(node_seat, an_acknowledgement_that_follows_the_end_of_the_seat_reaches_the_player)
{
    struct wire_link_join join;
    struct wire_frame_send send = {.room = 1, .n = 5, .data = {(const uint8_t *)"\x01", 1}};
    struct wire_link_send relayed;
    entry_of_b("01B", "up");
    hello(1, "ann");
    seat_found_at_b(1, 7, "far");
    told_b(WIRE_OP_LINK_JOIN, &join);
    b_seats(&join);
    frame(1, WIRE_OP_SEND, &send);
    run(20);
    cr_assert_eq(told_b(WIRE_OP_LINK_SEND, &relayed), 1);
    struct wire_link_left left = {.session = join.session, .room = join.room, .reason = wire_str("over")};
    struct wire_link_sent ack = {.session = join.session, .room = join.room, .n = 5, .epoch = 1,
                                 .number = relayed.number, .has_number = relayed.has_number};
    from_b(WIRE_OP_LINK_LEFT, &left);
    from_b(WIRE_OP_LINK_SENT, &ack);
    cr_assert_eq(said(1, WIRE_OP_LEFT), 1);
    cr_assert_eq(said(1, WIRE_OP_SENT), 1);
    frame(1, WIRE_OP_SEND, &send);
    struct wire_frame_error error;
    const struct sent *last = &sent[sent_count - 1];
    cr_assert_eq(wire_frame_error_unpack(&error, last->data, last->len, NULL), 0);
    cr_assert(error.has_n && error.n == 5 && !error.has_id);
}

Test(node_seat, a_gateway_that_left_without_its_last_words_holds_no_seats)
{
    hello(1, "ann");
    join_named(1, 7, "r", "relay");
    run(200);
    entry_of_b("01B", "up");
    seat_of_b("bob", "r");
    b_acknowledges();
    cr_assert_eq(bus_kv_delete(bus, 1, "servers", "b", BUS_ANY_REVISION, 1000), 0);
    for (int i = 0; i < 10; i++) {
        run(2000);
        b_acknowledges();
    }
    cr_assert_eq(node->remotes.count, 1, "b lives, its entry may be missing for other reasons");
    run(15000);
    cr_assert_eq(node->remotes.count, 0);
    cr_assert_eq(host_room_players(host_find(node->host, "r")), 1);
    cr_assert_eq(node->links.count, 0);
}
