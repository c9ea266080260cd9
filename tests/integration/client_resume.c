/*
 * The client library on real nodes: one session, whatever happens to its connections.
 *
 * Decides: that each add is acknowledged once and applied once, that rooms keep their numbers, and that what is heard of a room
 * goes up one by one, unless `resync` said that something is left out. Invariant: every wait is for a condition, with a
 * deadline.
 */
#include <criterion/criterion.h>

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/time.h"
#include "integration/roomctl_field.h"
#include "support/forward.h"
#include "support/proc.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"

enum { SEATS = 8, CUTS = 40, SENDS = 4096 };

struct heard {
    uint32_t room; /* 0: not joined */
    uint64_t request, sent, acked;
    int64_t value;              /* the last heard */
    bool gap;                   /* a resync: something may be left out */
    unsigned resyncs;           /* with the room's state */
    enum room_client_via via;
};

struct one {
    struct room_client *client;
    struct heard seats[SEATS];
    unsigned welcomes, resumed, resyncs;
    uint64_t made[SENDS]; /* by message: the value it makes, as the only player who adds there; 0: it has its answer */
    char server[65], session[65];
};

static char wrong[300];

static void breach(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!wrong[0])
        vsnprintf(wrong, sizeof wrong, format, args);
    va_end(args);
}

static struct heard *seat_of(struct one *o, uint32_t room)
{
    for (int i = 0; i < SEATS; i++)
        if (room && o->seats[i].room == room)
            return &o->seats[i];
    breach("room %u is nobody's", room);
    return NULL;
}

/* A number, or {"value": number}; -1: neither. */
static int64_t number_in(const void *data, size_t len)
{
    struct mp_read r;
    struct mp_token t = {0};
    mp_read_init(&r, data, len);
    int rc = len ? mp_next(&r, &t, NULL) : -1;
    if (rc == 0 && t.type == MP_MAP && mp_next(&r, &t, NULL) == 0)
        rc = mp_next(&r, &t, NULL);
    return rc == 0 && t.type == MP_INT ? t.i : -1;
}

static void on_welcome(void *arg, const char *server, const char *session, int resumed)
{
    struct one *o = arg;
    o->welcomes++;
    o->resumed += resumed != 0;
    if (o->session[0] && (!resumed || strcmp(session, o->session) != 0))
        breach("session %s became %s", o->session, session);
    snprintf(o->server, sizeof o->server, "%s", server);
    snprintf(o->session, sizeof o->session, "%s", session);
}

static void on_joined(void *arg, const struct room_client_joined *j)
{
    struct one *o = arg;
    for (int i = 0; i < SEATS; i++) {
        struct heard *s = &o->seats[i];
        if (s->request != j->request)
            continue;
        s->request = 0;
        s->room = j->room;
        s->via = j->via;
        s->gap = true; /* no number was heard yet */
        if (j->state_len)
            s->value = number_in(j->state, j->state_len);
    }
}

static void on_left(void *arg, uint32_t room, const char *reason)
{
    breach("room %u is left: %s", room, reason);
}

static void on_message(void *arg, uint32_t room, const char *from, const void *data, size_t len)
{
    struct heard *s = seat_of(arg, room);
    int64_t value = number_in(data, len);
    if (!s)
        return;
    if (value <= s->value || (!s->gap && value != s->value + 1))
        breach("room %u: %lld after %lld", room, (long long)value, (long long)s->value);
    s->value = value;
    s->gap = false;
}

static void on_resync(void *arg, uint32_t room, const void *state, size_t len, uint64_t missed)
{
    struct one *o = arg;
    o->resyncs++;
    for (int i = 0; i < SEATS; i++)
        o->seats[i].gap |= room == 0 || o->seats[i].room == room;
    struct heard *s = room && len ? seat_of(o, room) : NULL;
    if (s && number_in(state, len) < s->value)
        breach("room %u: resync fell to %lld after %lld", room, (long long)number_in(state, len), (long long)s->value);
    if (s)
        s->value = number_in(state, len);
    if (room && (s = seat_of(o, room)))
        s->resyncs++;
}

static void on_sent(void *arg, uint32_t room, uint64_t n, const void *result, size_t len)
{
    struct one *o = arg;
    struct heard *s = seat_of(o, room);
    if (!s)
        return;
    if (n >= SENDS || !o->made[n])
        breach("room %u: message %u is acknowledged twice", room, (unsigned)n);
    else if (len && number_in(result, len) != (int64_t)o->made[n])
        breach("room %u: message %u made %lld, not %u", room, (unsigned)n, (long long)number_in(result, len),
               (unsigned)o->made[n]);
    else
        o->made[n] = 0;
    s->acked++;
}

static void on_error(void *arg, uint64_t request, int code, const char *text)
{
    breach("request %u: %s: %s", (unsigned)request, room_error_name(code), text);
}

static void on_refused(void *arg, uint32_t room, uint64_t n, int code, const char *text)
{
    breach("room %u: message %u is refused: %s: %s", room, (unsigned)n, room_error_name(code), text);
}

static void on_kicked(void *arg, const char *reason)
{
    breach("kicked: %s", reason);
}

static void come(struct one *o, const char *name, const char *servers, bool redirect)
{
    struct room_client_config config = {
        .servers = servers, .player = name, .can_relay = 1, .can_redirect = redirect, .arg = o,
        .on = {.welcome = on_welcome, .joined = on_joined, .left = on_left, .message = on_message, .sent = on_sent,
               .error = on_error, .refused = on_refused, .resync = on_resync, .kicked = on_kicked}};
    memset(o, 0, sizeof *o);
    cr_assert_eq(room_client_create(&config, &o->client), 0);
    cr_assert_eq(room_client_connect(o->client, time_mono_now().us / 1000), 0);
}

static struct one ann, bob;

static void turn(void)
{
    room_client_run_once(ann.client, 2);
    room_client_run_once(bob.client, 2);
    cr_assert(!wrong[0], "%s", wrong);
}

#define UNTIL(condition)                                                                                             \
    do {                                                                                                             \
        int64_t end_ = time_mono_now().us / 1000 + 2 * FIELD_T;                                                      \
        while (!(condition)) {                                                                                       \
            turn();                                                                                                  \
            cr_assert_lt(time_mono_now().us / 1000, end_, "waited for " #condition);                                 \
        }                                                                                                            \
    } while (0)

static void sit(struct one *o, int seat, const char *type, const char *room)
{
    struct room_client_join join = {.type = type, .room_id = room};
    UNTIL(room_client_server(o->client)[0]);
    cr_assert_eq(room_client_join(o->client, &join, &o->seats[seat].request), 0);
    UNTIL(o->seats[seat].room);
}

static void put(struct one *o, int seat, const void *data, size_t len)
{
    uint64_t n = 0;
    cr_assert_eq(room_client_send(o->client, o->seats[seat].room, data, len, &n), 0);
    cr_assert_lt(n, SENDS);
    o->made[n] = ++o->seats[seat].sent;
}

static void add(struct one *o, int seat)
{
    static const uint8_t one_more[] = {0x81, 0xa3, 'a', 'd', 'd', 1};
    put(o, seat, one_more, sizeof one_more);
}

/* The next number. */
static void say(struct one *o, int seat)
{
    uint8_t bytes[16];
    struct buf out = {.data = bytes, .cap = sizeof bytes, .max = sizeof bytes, .alloc = &alloc_libc};
    mp_write_int(&out, (int64_t)o->seats[seat].sent + 1);
    put(o, seat, bytes, out.len);
}

static bool answered(void)
{
    for (int i = 0; i < SEATS; i++)
        if (ann.seats[i].acked < ann.seats[i].sent || bob.seats[i].acked < bob.seats[i].sent)
            return false;
    return true;
}

static void meet(void)
{
    setenv("ROOMD_PREFER_LOCAL", "true", 1);
    wrong[0] = '\0';
    field_start(2, NULL, NULL);
}

static void part(void)
{
    room_client_destroy(ann.client);
    room_client_destroy(bob.client);
    ann.client = bob.client = NULL;
    field_stop();
}

static int port_of(int node)
{
    return atoi(strrchr(field_address(node), ':') + 1);
}

/* Seats: 0 the counter of Bob's node, 1 the counter of Ann's node, 2 what Bob says. */
static void three_rooms(const char *servers, bool redirect)
{
    come(&ann, "ann", servers, redirect);
    come(&bob, "bob", field_address(1), false);
    sit(&bob, 0, "counter", "far");
    sit(&bob, 2, "relay", "talk");
}

/* At the other server: each room has said what its state is, and what is said from then on is heard. */
static void goes_on(void)
{
    cr_assert_str_eq(ann.server, "n1");
    UNTIL(ann.seats[0].resyncs > 0 && ann.seats[1].resyncs > 0 && ann.seats[2].resyncs > 0);
    say(&bob, 2);
    UNTIL(ann.seats[2].value == (int64_t)bob.seats[2].sent);
    for (int i = 0; i < 2; i++)
        UNTIL(ann.seats[i].value == (int64_t)ann.seats[i].sent);
}

Test(client_resume, a_connection_that_breaks, .timeout = 200, .init = meet, .fini = part)
{
    struct forward wire;
    char address[32];
    cr_assert(forward_start(&wire, port_of(0)));
    snprintf(address, sizeof address, "127.0.0.1:%d", wire.port);
    three_rooms(address, false);
    sit(&ann, 0, "counter", "far");
    sit(&ann, 1, "counter", "near");
    sit(&ann, 2, "relay", "talk");
    for (unsigned i = 1; i <= CUTS; i++) {
        for (int k = 0; k < 5; k++) {
            add(&ann, 0);
            add(&ann, 1);
            say(&bob, 2);
        }
        for (unsigned k = 0; k < i % 5; k++)
            turn();
        forward_cut(&wire);
        UNTIL(ann.resumed == i);
        cr_assert_str_eq(ann.server, "n0");
    }
    UNTIL(answered() && ann.seats[2].value == (int64_t)bob.seats[2].sent);
    UNTIL(ann.seats[0].value == 5 * CUTS && ann.seats[1].value == 5 * CUTS);
    cr_assert_eq(ann.resyncs, 0, "nothing is left out");
    cr_assert_eq(ann.welcomes, CUTS + 1);
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
    forward_stop(&wire);
}

Test(client_resume, a_server_that_dies, .timeout = 200, .init = meet, .fini = part)
{
    three_rooms(field_address(0), false);
    sit(&ann, 0, "counter", "far");
    sit(&ann, 1, "counter", "near");
    sit(&ann, 2, "relay", "talk");
    UNTIL(strstr(stored("sessions", ann.session), "near") && strstr(stored("sessions", ann.session), "talk"));
    for (int i = 0; i < 50; i++) {
        add(&ann, 0);
        add(&ann, 1);
        say(&bob, 2);
        turn();
        if (i == 25)
            field_kill_node(0);
    }
    UNTIL(ann.resumed == 1 && answered());
    goes_on();
    cr_assert(wait_until(all_holds, NULL, 2 * FIELD_T), "%s", ctl_out());
}

Test(client_resume, a_server_that_stops, .timeout = 200, .init = meet, .fini = part)
{
    three_rooms(field_address(0), false);
    sit(&ann, 0, "counter", "far");
    sit(&ann, 1, "counter", "near");
    sit(&ann, 2, "relay", "talk");
    field_signal_node(0, SIGTERM);
    for (int i = 0; i < 50 || ann.resumed == 0; i++) {
        if (ann.seats[0].sent < 500) {
            add(&ann, 0);
            add(&ann, 1);
            say(&bob, 2);
        }
        turn();
    }
    UNTIL(ann.resumed == 1 && answered());
    goes_on();
    cr_assert(wait_until(all_holds, NULL, 2 * FIELD_T), "%s", ctl_out());
}

/* Every join leads to the other server, there and back; the rooms of before go on meanwhile. */
Test(client_resume, a_redirect, .timeout = 200, .init = meet, .fini = part)
{
    static struct one carl;
    three_rooms(field_address(0), true);
    sit(&ann, 1, "counter", "near");
    for (int i = 3; i < SEATS; i++) {
        char id[16];
        come(&carl, "carl", field_address(i % 2), false);
        struct room_client_join join = {.mode = "create", .type = "counter", .room_id = id};
        snprintf(id, sizeof id, "room-%d", i);
        UNTIL((room_client_run_once(carl.client, 1), carl.welcomes == 1));
        cr_assert_eq(room_client_join(carl.client, &join, &carl.seats[0].request), 0);
        UNTIL((room_client_run_once(carl.client, 1), carl.seats[0].room));
        unsigned before = ann.welcomes;
        for (int k = 0; k < 20; k++) {
            add(&ann, 1);
            if (k == 10) {
                join.mode = "join";
                cr_assert_eq(room_client_join(ann.client, &join, &ann.seats[i].request), 0);
            }
            turn();
        }
        UNTIL(ann.seats[i].room);
        cr_assert_eq(ann.welcomes, before + 1);
        cr_assert_str_eq(ann.server, i % 2 ? "n1" : "n0");
        cr_assert_eq(ann.seats[i].via, ROOM_CLIENT_REDIRECT);
        room_client_destroy(carl.client);
        for (int k = 3; k <= i; k++)
            add(&ann, k);
        UNTIL(answered());
        UNTIL(ann.seats[1].value == (int64_t)ann.seats[1].sent);
        cr_assert_str_eq(ctl_ids("players --json --room near"), "ann");
    }
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
}
