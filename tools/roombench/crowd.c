/* See crowd.h. A seat is found by the library's number of its room, of which a player has CROWD_EACH at a time, counting up. */
#include "tools/roombench/crowd.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "room/client.h"
#include "tools/roombench/stats.h"

enum { QUEUE_BYTES = 1024 * 1024 }; /* a document to each room, unanswered */
enum { WAIT_S = 30, EVENTS = 64, TIMERS_US = 100000, JOINS = 16, HANDLES = 1024, FLUSH = 16 };
_Static_assert(HANDLES > 2 * CROWD_EACH, "numbers of rooms that are gone meet none that is there");

struct seat {
    uint64_t request; /* of the open join */
    uint32_t room;    /* 0: none */
};

struct one {
    struct crowd *all;
    struct room_client *client;
    bool welcomed;
    unsigned first, count, open, next; /* seats of his; joins under way; the next seat to ask for */
    unsigned by_room[HANDLES];
};

struct crowd {
    struct one *ones;
    unsigned one_count, rooms, seated, acked; /* acked: of the last round of messages */
    struct seat *seats;
    int epoll_fd;
    int64_t timers_us;
    char error[128];
};

static void on_welcome(void *arg, const char *server, const char *session, int resumed)
{
    ((struct one *)arg)->welcomed = true;
}

static void on_joined(void *arg, const struct room_client_joined *j)
{
    struct one *o = arg;
    for (unsigned i = o->first; i < o->first + o->count; i++) {
        struct seat *s = &o->all->seats[i];
        if (s->request != j->request)
            continue;
        s->request = 0;
        s->room = j->room;
        o->by_room[j->room % HANDLES] = i;
        o->open--;
        o->all->seated++;
        return;
    }
}

static void on_left(void *arg, uint32_t room, const char *reason)
{
    struct one *o = arg;
    struct seat *s = &o->all->seats[o->by_room[room % HANDLES]];
    if (s->room != room)
        return;
    s->room = 0;
    o->all->seated--;
    snprintf(o->all->error, sizeof o->all->error, "left: %s", reason);
}

static void on_sent(void *arg, uint32_t room, uint64_t n, const void *result, size_t len)
{
    ((struct one *)arg)->all->acked++;
}

static void on_error(void *arg, uint64_t request, int code, const char *text)
{
    struct one *o = arg;
    snprintf(o->all->error, sizeof o->all->error, "%s: %s", room_error_name(code), text);
    for (unsigned i = o->first; request && i < o->first + o->count; i++) {
        if (o->all->seats[i].request != request)
            continue;
        o->all->seats[i].request = 0;
        o->open--;
        if (i < o->next)
            o->next = i; /* asked for again */
    }
}

static void on_refused(void *arg, uint32_t room, uint64_t n, int code, const char *text)
{
    on_error(arg, 0, code, text);
}

void crowd_turn(struct crowd *c)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(c->epoll_fd, events, EVENTS, 1);
    int64_t now_us = stats_now_us();
    for (int i = 0; i < count; i++)
        room_client_process(((struct one *)events[i].data.ptr)->client, 1, now_us / 1000);
    if (now_us < c->timers_us)
        return;
    c->timers_us = now_us + TIMERS_US;
    for (unsigned i = 0; i < c->one_count; i++)
        if (room_client_deadline_ms(c->ones[i].client) <= now_us / 1000)
            room_client_process(c->ones[i].client, 0, now_us / 1000);
}

static int late(const struct crowd *c, int64_t since_us, const char *what, unsigned have)
{
    if (stats_now_us() - since_us < (int64_t)WAIT_S * 1000000)
        return 0;
    fprintf(stderr, "roombench: after %d s, %u of %u %s; an error: %s\n", WAIT_S, have, c->rooms, what,
            c->error[0] ? c->error : "none");
    return -1;
}

static int add_one(struct crowd *c, const char *server, const char *name)
{
    struct one *o = &c->ones[c->one_count];
    char id[64];
    snprintf(id, sizeof id, "%s-%u", name, c->one_count);
    o->all = c;
    o->first = c->one_count * CROWD_EACH;
    o->count = c->rooms - o->first < CROWD_EACH ? c->rooms - o->first : CROWD_EACH;
    struct room_client_config config = {
        .servers = server, .player = id, .can_relay = 1, .arg = o, .join_timeout_ms = WAIT_S * 1000,
        .max_queue_bytes = QUEUE_BYTES,
        .on = {.welcome = on_welcome, .joined = on_joined, .left = on_left, .sent = on_sent, .error = on_error,
               .refused = on_refused}};
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = o};
    int rc = room_client_create(&config, &o->client);
    if (rc != 0)
        return rc;
    c->one_count++;
    rc = room_client_connect(o->client, stats_now_us() / 1000);
    if (rc == 0 && epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, room_client_fd(o->client), &ev) != 0)
        rc = ROOM_E_IO;
    return rc;
}

struct crowd *crowd_open(const char *server, const char *name, unsigned rooms)
{
    unsigned wanted = (rooms + CROWD_EACH - 1) / CROWD_EACH, welcomed = 0;
    struct crowd *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->rooms = rooms;
    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    c->ones = calloc(wanted, sizeof *c->ones);
    c->seats = calloc(rooms, sizeof *c->seats);
    int rc = c->ones && c->seats && c->epoll_fd >= 0 ? 0 : ROOM_E_NO_MEMORY;
    while (rc == 0 && c->one_count < wanted)
        rc = add_one(c, server, name);
    if (rc != 0)
        fprintf(stderr, "roombench: player %s: %s\n", name, room_error_text(rc));
    int64_t start = stats_now_us();
    while (rc == 0 && welcomed < wanted && (rc = late(c, start, "seats' players are connected", welcomed)) == 0) {
        crowd_turn(c);
        welcomed = 0;
        for (unsigned i = 0; i < wanted; i++)
            welcomed += c->ones[i].welcomed;
    }
    if (rc == 0)
        return c;
    crowd_close(c);
    return NULL;
}

void crowd_close(struct crowd *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i < c->one_count; i++)
        room_client_destroy(c->ones[i].client);
    if (c->epoll_fd >= 0)
        close(c->epoll_fd);
    free(c->ones);
    free(c->seats);
    free(c);
}

static void ask(struct crowd *c, struct one *o, const char *type, const char *prefix)
{
    for (; o->next < o->first + o->count && o->open < JOINS; o->next++) {
        struct seat *s = &c->seats[o->next];
        char id[64];
        if (s->room || s->request)
            continue;
        snprintf(id, sizeof id, "%s-%u", prefix, o->next);
        struct room_client_join j = {.type = type, .room_id = id};
        if (room_client_join(o->client, &j, &s->request) != 0)
            break;
        o->open++;
    }
    room_client_flush(o->client);
}

int64_t crowd_enter(struct crowd *c, const char *type, const char *prefix)
{
    int64_t start = stats_now_us();
    for (unsigned i = 0; i < c->one_count; i++)
        c->ones[i].next = c->ones[i].first;
    while (c->seated < c->rooms) {
        for (unsigned i = 0; i < c->one_count; i++)
            ask(c, &c->ones[i], type, prefix);
        crowd_turn(c);
        if (late(c, start, "rooms joined", c->seated) != 0)
            return -1;
    }
    return stats_now_us() - start;
}

int64_t crowd_say(struct crowd *c, const void *data, size_t len)
{
    int64_t start = stats_now_us();
    c->acked = 0;
    for (unsigned i = 0; i < c->rooms; i++) {
        struct one *o = &c->ones[i / CROWD_EACH];
        int rc = room_client_send(o->client, c->seats[i].room, data, len, NULL);
        if (rc != 0) {
            fprintf(stderr, "roombench: room %u of %u: %s\n", i, c->rooms, room_error_text(rc));
            return -1;
        }
        if (i % FLUSH == FLUSH - 1 || i + 1 == c->rooms || (i + 1) % CROWD_EACH == 0)
            room_client_flush(o->client);
    }
    while (c->acked < c->rooms) {
        crowd_turn(c);
        if (late(c, start, "messages acknowledged", c->acked) != 0)
            return -1;
    }
    return stats_now_us() - start;
}

int64_t crowd_lost(struct crowd *c, int64_t since_us)
{
    while (c->seated > 0) {
        crowd_turn(c);
        if (late(c, since_us, "seats are still held", c->seated) != 0)
            return -1;
    }
    return stats_now_us() - since_us;
}
