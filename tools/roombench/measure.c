/* See measure.h. Invariant: no wait is longer than WAIT_US. */
#include "tools/roombench/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_US = 30000000, EVENTS = 64, TIMERS_US = 100000, WAIT_TIMERS_US = 5000 };

static struct players *all_open;

/* A string of 60 characters, {"add": 1}. */
static const char text_value[] = "\xd9\x3c" "012345678901234567890123456789012345678901234567890123456789";
static const char add_value[] = "\x81\xa3" "add\x01";

static void on_welcome(void *arg, const char *server, const char *session, int resumed)
{
    struct player *p = arg;
    p->welcomed++;
    p->resumed += resumed != 0;
}

static void on_joined(void *arg, const struct room_client_joined *j)
{
    struct player *p = arg;
    p->room = j->room;
    p->via = j->via;
    p->rooms++;
    if (p->all->joins)
        stats_add(p->all->joins, stats_now_us() - p->asked_us);
    if (p->leaves)
        room_client_leave(p->client, j->room);
}

static void on_message(void *arg, uint32_t room, const char *from, const void *data, size_t len)
{
    struct player *p = arg;
    p->heard++;
    if (p->answers)
        room_client_send(p->client, room, data, len, NULL);
}

static void on_push(void *arg, const void *data, size_t len)
{
    ((struct player *)arg)->pushed++;
}

static void on_sent(void *arg, uint32_t room, uint64_t n, const void *result, size_t len)
{
    ((struct player *)arg)->acked++;
}

static void on_left(void *arg, uint32_t room, const char *reason)
{
    struct player *p = arg;
    p->lefts++;
    snprintf(p->error, sizeof p->error, "left: %s", reason);
}

static void on_error(void *arg, uint64_t request, int code, const char *text)
{
    struct player *p = arg;
    p->failed++;
    snprintf(p->error, sizeof p->error, "%s: %s", room_error_name(code), text);
}

static void on_refused(void *arg, uint32_t room, uint64_t n, int code, const char *text)
{
    on_error(arg, 0, code, text);
}

static void on_closed(void *arg, int code, const char *text)
{
    on_error(arg, 0, code, text);
}

void players_turn(struct players *ps, int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(ps->epoll_fd, events, EVENTS, timeout_ms);
    int64_t now_ms = stats_now_us() / 1000;
    for (int i = 0; i < count; i++)
        room_client_process(((struct player *)events[i].data.ptr)->client, 1, now_ms);
}

/* Of all players there are: those that are not measured now must answer, too. */
void players_timers(void)
{
    int64_t now_ms = stats_now_us() / 1000;
    for (struct players *ps = all_open; ps; ps = ps->next)
        for (unsigned i = 0; i < ps->count; i++)
            if (room_client_deadline_ms(ps->p[i].client) <= now_ms)
                room_client_process(ps->p[i].client, 1, now_ms);
}

static const char *any_error(const struct players *ps)
{
    for (unsigned i = 0; i < ps->count; i++)
        if (ps->p[i].error[0])
            return ps->p[i].error;
    return "none";
}

/* Until `done` says so; -1 after WAIT_US. */
static int wait_for(struct players *ps, const char *what, int (*done)(struct players *ps))
{
    int64_t end = stats_now_us() + WAIT_US, next = 0;
    while (!done(ps)) {
        int64_t now = stats_now_us();
        if (now > next) {
            players_timers();
            next = now + WAIT_TIMERS_US; /* whoever looks for a new home waits no longer than he means to */
        }
        if (now > end) {
            fprintf(stderr, "roombench: waited too long for %s; an error: %s\n", what, any_error(ps));
            return -1;
        }
        players_turn(ps, 1);
    }
    return 0;
}

static int all_welcomed(struct players *ps)
{
    for (unsigned i = 0; i < ps->count; i++)
        if (ps->p[i].welcomed <= ps->p[i].counted)
            return 0;
    return 1;
}

static int wait_welcomed(struct players *ps, const char *what)
{
    int rc = wait_for(ps, what, all_welcomed);
    for (unsigned i = 0; rc == 0 && i < ps->count; i++)
        ps->p[i].counted = ps->p[i].welcomed;
    return rc;
}

static unsigned servers_in(const char *list)
{
    unsigned count = 1;
    for (; *list; list++)
        count += *list == ',';
    return count;
}

struct players *players_open(const char *server, const char *name, unsigned count, int redirect, int relay)
{
    struct players *ps = calloc(1, sizeof *ps);
    if (ps)
        ps->p = calloc(count, sizeof *ps->p);
    if (!ps || !ps->p || (ps->epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0) {
        fprintf(stderr, "roombench: no memory for %u players\n", count);
        if (ps)
            free(ps->p);
        free(ps);
        return NULL;
    }
    ps->next = all_open;
    all_open = ps;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < count; i++) {
        char id[64];
        struct player *p = &ps->p[i];
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = p};
        snprintf(id, sizeof id, "%s-%u", name, i);
        struct room_client_config config = {
            .servers = server, .player = id, .can_redirect = redirect, .can_relay = relay, .arg = p,
            .first_server = i % servers_in(server), .connect_timeout_ms = 20000, .join_timeout_ms = 30000,
            .on = {.welcome = on_welcome, .joined = on_joined, .left = on_left, .message = on_message, .push = on_push,
                   .sent = on_sent, .error = on_error, .refused = on_refused, .closed = on_closed}};
        p->all = ps;
        if ((rc = room_client_create(&config, &p->client)) != 0)
            break;
        ps->count++;
        room_client_connect(p->client, stats_now_us() / 1000);
        if (epoll_ctl(ps->epoll_fd, EPOLL_CTL_ADD, room_client_fd(p->client), &ev) != 0)
            rc = ROOM_E_IO;
    }
    if (rc != 0)
        fprintf(stderr, "roombench: player %s: %s\n", name, room_error_text(rc));
    if (rc == 0 && wait_welcomed(ps, "players to be connected") == 0)
        return ps;
    players_close(ps);
    return NULL;
}

void players_close(struct players *ps)
{
    if (!ps)
        return;
    struct players **at = &all_open;
    while (*at != ps)
        at = &(*at)->next;
    *at = ps->next;
    for (unsigned i = 0; i < ps->count; i++)
        room_client_destroy(ps->p[i].client);
    close(ps->epoll_fd);
    free(ps->p);
    free(ps);
}

/* The socket inside a client: its descriptor is an epoll instance, and the kernel tells what is in it. -1: there is none. */
static int socket_of(const struct room_client *client)
{
    char path[64], line[256];
    int fd = -1;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", room_client_fd(client));
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "tfd: %d", &fd) != 1)
        ;
    if (f)
        fclose(f);
    return fd;
}

/* All are looked up before the first is cut: what follows is one moment for all of them. */
int64_t players_cut(struct players *ps)
{
    int *fds = calloc(ps->count, sizeof *fds), missing = 0;
    for (unsigned i = 0; fds && i < ps->count; i++)
        missing += (fds[i] = socket_of(ps->p[i].client)) < 0;
    int64_t start = fds && !missing ? stats_now_us() : -1;
    for (unsigned i = 0; start >= 0 && i < ps->count; i++)
        shutdown(fds[i], SHUT_RDWR);
    free(fds);
    if (start < 0)
        fprintf(stderr, "roombench: the connections of %u players cannot be cut, %d are not found\n", ps->count, missing);
    return start;
}

int players_back(struct players *ps)
{
    unsigned anew = 0, left = 0;
    if (wait_welcomed(ps, "sessions to be taken up again") != 0)
        return -1;
    for (unsigned i = 0; i < ps->count; i++) {
        anew += ps->p[i].welcomed != ps->p[i].resumed + 1;
        left += ps->p[i].lefts > 0;
    }
    if (anew + left == 0)
        return 0;
    fprintf(stderr, "roombench: of %u sessions %u were not taken up again, and %u lost a room; an error: %s\n", ps->count, anew,
            left, any_error(ps));
    return -1;
}

static int all_joined(struct players *ps)
{
    for (unsigned i = 0; i < ps->count; i++)
        if (ps->p[i].rooms == 0)
            return 0;
    return 1;
}

int players_join(struct players *ps, const char *type, const char *format, unsigned per_room)
{
    for (unsigned i = 0; i < ps->count; i++) {
        char id[64];
        struct player *p = &ps->p[i];
        snprintf(id, sizeof id, "%s-%u", format, per_room ? i / per_room : 0);
        struct room_client_join j = {.type = type, .room_id = id};
        p->rooms = 0;
        p->asked_us = stats_now_us();
        int rc = room_client_join(p->client, &j, NULL);
        if (rc != 0) {
            fprintf(stderr, "roombench: join: %s\n", room_error_text(rc));
            return -1;
        }
        room_client_flush(p->client);
    }
    return wait_for(ps, "joins", all_joined);
}

static int all_filled(struct players *ps)
{
    for (unsigned i = 0; i < ps->count; i++)
        if (ps->p[i].lefts + ps->p[i].failed < ps->p[i].sent)
            return 0;
    return 1;
}

/* `sent` counts the requests here: nobody speaks meanwhile. */
static unsigned ask_more(struct players *ps, const char *type, unsigned left)
{
    struct room_client_join j = {.mode = "create", .type = type};
    unsigned asked = 0;
    for (unsigned i = 0; i < ps->count; i++) {
        struct player *p = &ps->p[i];
        while (asked < left && p->sent - p->lefts - p->failed < PLAYER_ROOMS &&
               room_client_join(p->client, &j, NULL) == 0) {
            p->sent++;
            asked++;
        }
        room_client_flush(p->client);
    }
    return asked;
}

unsigned players_fill(struct players *ps, const char *type, unsigned total, int64_t *took_us)
{
    unsigned made = 0, asked = 0;
    int64_t start = stats_now_us();
    for (unsigned i = 0; i < ps->count; i++) {
        ps->p[i].rooms = ps->p[i].failed = ps->p[i].lefts = 0;
        ps->p[i].sent = 0;
        ps->p[i].leaves = 1;
    }
    while (asked < total && stats_now_us() - start < 4 * (int64_t)WAIT_US) {
        asked += ask_more(ps, type, total - asked);
        players_turn(ps, 1);
        players_timers();
    }
    wait_for(ps, "rooms to be made", all_filled);
    *took_us = stats_now_us() - start;
    for (unsigned i = 0; i < ps->count; i++) {
        made += ps->p[i].rooms;
        ps->p[i].sent = ps->p[i].acked = 0;
        ps->p[i].leaves = 0;
        if (ps->p[i].failed)
            fprintf(stderr, "roombench: %u rooms of player %u were refused: %s\n", ps->p[i].failed, i, ps->p[i].error);
    }
    return made;
}

double players_ack_us(struct players *ps, unsigned rounds)
{
    struct stats s = {0};
    struct player *p = &ps->p[0];
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t acked = p->acked, heard = p->heard;
        int64_t start = stats_now_us();
        if (room_client_send(p->client, p->room, add_value, sizeof add_value - 1, NULL) != 0)
            return -1;
        room_client_flush(p->client);
        while (p->acked == acked && stats_now_us() - start < WAIT_US)
            players_turn(ps, 100);
        stats_add(&s, stats_now_us() - start);
        /* The new value comes to its sender, too; a node that is still busy with it would answer without waking up. */
        while (p->heard == heard && stats_now_us() - start < WAIT_US)
            players_turn(ps, 100);
    }
    return stats_at(&s, 0.5);
}

double players_add_rate(struct players *ps, unsigned adds, unsigned window)
{
    uint64_t acked = 0, want = (uint64_t)ps->count * adds;
    for (unsigned i = 0; i < ps->count; i++)
        ps->p[i].sent = ps->p[i].acked = ps->p[i].failed = 0;
    int64_t start = stats_now_us(), next = 0;
    while (acked < want) {
        int64_t now = stats_now_us();
        acked = 0;
        for (unsigned i = 0; i < ps->count; i++) {
            struct player *p = &ps->p[i];
            while (p->sent < adds && p->sent - p->acked < window &&
                   room_client_send(p->client, p->room, add_value, sizeof add_value - 1, NULL) == 0)
                p->sent++;
            room_client_flush(p->client);
            acked += p->acked;
            if (p->failed)
                now = INT64_MAX; /* what was refused will not be acknowledged */
        }
        if (now - start > WAIT_US) {
            fprintf(stderr, "roombench: only %llu of %llu adds were acknowledged; an error: %s\n", (unsigned long long)acked,
                    (unsigned long long)want, any_error(ps));
            return -1;
        }
        if (now > next) {
            players_timers();
            next = now + TIMERS_US;
        }
        if (acked < want)
            players_turn(ps, 1);
    }
    return (double)want * 1e6 / (double)(stats_now_us() - start);
}

double players_pingpong_us(struct players *a, struct players *b, unsigned rounds)
{
    struct stats s = {0};
    struct player *p = &a->p[0];
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &b->p[0]};
    b->p[0].answers = 1;
    /* One wait for both: what is measured is the way, not two sleepers. */
    epoll_ctl(a->epoll_fd, EPOLL_CTL_ADD, room_client_fd(b->p[0].client), &ev);
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t before = p->heard;
        int64_t start = stats_now_us();
        if (room_client_send(p->client, p->room, text_value, sizeof text_value - 1, NULL) != 0)
            return -1;
        room_client_flush(p->client);
        while (p->heard == before && stats_now_us() - start < WAIT_US)
            players_turn(a, 100);
        stats_add(&s, stats_now_us() - start);
    }
    epoll_ctl(a->epoll_fd, EPOLL_CTL_DEL, room_client_fd(b->p[0].client), NULL);
    b->p[0].answers = 0;
    return stats_at(&s, 0.5);
}

double players_broadcast_rate(struct players *ps, unsigned per_room, unsigned messages, unsigned window)
{
    uint64_t want = (uint64_t)(ps->count - ps->count / per_room) * messages, heard = 0;
    uint64_t unacked = (uint64_t)(ps->count / per_room) * messages, acks = 0;
    for (unsigned i = 0; i < ps->count; i++)
        ps->p[i].heard = ps->p[i].sent = ps->p[i].acked = 0;
    int64_t start = stats_now_us(), next = 0;
    /* The acknowledgements, too: a late one would count in the next round. */
    while (heard < want || acks < unacked) {
        for (unsigned i = 0; i < ps->count; i += per_room) {
            struct player *p = &ps->p[i];
            while (p->sent < messages && p->sent - p->acked < window &&
                   room_client_send(p->client, p->room, text_value, sizeof text_value - 1, NULL) == 0)
                p->sent++;
            room_client_flush(p->client);
        }
        players_turn(ps, 1);
        int64_t now = stats_now_us();
        if (now > next) {
            players_timers();
            next = now + TIMERS_US;
        }
        heard = acks = 0;
        for (unsigned i = 0; i < ps->count; i++) {
            heard += ps->p[i].heard;
            acks += ps->p[i].acked;
        }
        if (now - start > WAIT_US) {
            fprintf(stderr, "roombench: only %llu of %llu deliveries came; an error: %s\n", (unsigned long long)heard,
                    (unsigned long long)want, any_error(ps));
            return -1;
        }
    }
    return (double)want * 1e6 / (double)(stats_now_us() - start);
}
