/*
 * Bots: playing. See bots.h.
 *
 * Decides: who joins which room when, and what is said. Must not judge; bots_check.c does. Invariant: a bot stops sending
 * into a room while BOTS_RING of its messages there are unacknowledged.
 */
#include "tools/roombench/bots.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/buf.h"
#include "tools/roombench/bots_state.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"

enum { RETRY_US = 100000, SETTLE_US = 5000000, START_US = 10000000, MAKER_US = 3000000, EVENTS = 64, PAYLOAD = 256, TURN_MS = 5 };

static const char *const kinds[] = {"relay", "state", "counter"};
static uint32_t last_life;

static struct bots_seat *seat_of(struct bot *bot, uint32_t room)
{
    for (unsigned i = 0; i < BOTS_SEATS; i++)
        if (bot->seats[i].room == room)
            return &bot->seats[i];
    return NULL;
}

/* The array [bot, life, n, time] at the reader's place. */
static bool read_note(struct mp_read *r, int64_t note[4])
{
    struct mp_token t;
    if (mp_next(r, &t, NULL) != 0 || t.type != MP_ARRAY || t.count != 4)
        return false;
    for (int i = 0; i < 4; i++) {
        if (mp_next(r, &t, NULL) != 0 || t.type != MP_INT)
            return false;
        note[i] = t.i;
    }
    return true;
}

static void on_message(void *arg, uint32_t room, const char *from, const void *data, size_t len)
{
    struct bot *bot = arg;
    struct bots *b = bot->all;
    struct bots_seat *seat = seat_of(bot, room);
    struct mp_read r;
    struct mp_token t;
    int64_t note[4], value;
    if (!seat)
        return;
    if (seat->kind == BOTS_COUNTER) {
        if (bots_read_value(data, len, &value)) {
            b->received++;
            bots_skip(seat, value);
            bots_heard(b, seat, BOTS_ROOM, 0, value);
        }
        return;
    }
    mp_read_init(&r, data, len);
    if (seat->kind == BOTS_STATE) /* {"set": {key: note}} */
        for (int i = 0; i < 4; i++)
            if (mp_next(&r, &t, NULL) != 0)
                return;
    if (!read_note(&r, note) || note[0] == bot->index)
        return;
    b->received++;
    stats_add(&b->latency, stats_now_us() - note[3]);
    bots_heard(b, seat, (uint32_t)note[0], (uint32_t)note[1], note[2]);
}

static void on_joined(void *arg, const struct room_client_joined *j)
{
    struct bot *bot = arg;
    struct bots *b = bot->all;
    int64_t value;
    for (unsigned i = 0; i < BOTS_SEATS; i++) {
        struct bots_seat *s = &bot->seats[i];
        if (s->request != j->request)
            continue;
        s->request = 0;
        s->room = j->room;
        s->epoch = j->epoch;
        s->life = ++last_life;
        s->sent = 0;
        s->open = 0;
        s->send_at_us = stats_now_us();
        if (s->kind == BOTS_COUNTER && bots_read_value(j->state, j->state_len, &value))
            bots_heard(b, s, BOTS_ROOM, 0, value);
    }
    b->join_local += j->via == ROOM_CLIENT_LOCAL;
    b->join_redirect += j->via == ROOM_CLIENT_REDIRECT;
    b->join_relay += j->via == ROOM_CLIENT_RELAY;
}

static void on_left(void *arg, uint32_t room, const char *reason)
{
    struct bot *bot = arg;
    struct bots_seat *s = seat_of(bot, room);
    if (!s)
        return;
    bot->all->lost_seats++;
    bot->all->sent_at_loss += s->open;
    bots_doubt(s);
    s->open = 0;
    s->room = 0;
    s->retry_at_us = stats_now_us() + RETRY_US;
    bots_forget(s);
}

static void on_sent(void *arg, uint32_t room, uint64_t n, const void *result, size_t len)
{
    struct bot *bot = arg;
    struct bots_seat *s = seat_of(bot, room);
    bot->all->acked++;
    if (!s)
        return;
    s->open -= s->open > 0;
    stats_add(&bot->all->ack, stats_now_us() - s->sent_at_us[n % BOTS_RING]);
    bots_acknowledged(bot->all, s, result, len);
}

static void on_resumed(void *arg, uint32_t room, uint64_t epoch)
{
    struct bots_seat *s = seat_of(arg, room);
    if (s)
        s->epoch = epoch;
}

static void on_resync(void *arg, uint32_t room, const void *state, size_t len, uint64_t missed)
{
    struct bot *bot = arg;
    struct bots_seat *s = room ? seat_of(bot, room) : NULL;
    if (s)
        bots_resynced(bot->all, s, state, len);
    for (unsigned i = 0; !room && i < BOTS_SEATS; i++)
        bots_gap(&bot->seats[i]);
}

static void on_refused(void *arg, uint32_t room, uint64_t n, int code, const char *text)
{
    struct bot *bot = arg;
    struct bots_seat *s = seat_of(bot, room);
    bot->all->refused++;
    snprintf(bot->all->last_error, sizeof bot->all->last_error, "%s: %s", room_error_name(code), text);
    if (s)
        s->open -= s->open > 0;
}

static void on_error(void *arg, uint64_t request, int code, const char *text)
{
    struct bot *bot = arg;
    bot->all->errors++;
    snprintf(bot->all->last_error, sizeof bot->all->last_error, "%s: %s", room_error_name(code), text);
    for (unsigned i = 0; i < BOTS_SEATS; i++)
        if (request && bot->seats[i].request == request) {
            bot->seats[i].request = 0;
            bot->seats[i].retry_at_us = stats_now_us() + RETRY_US;
        }
}

static void on_welcome(void *arg, const char *server, const char *session, int resumed)
{
    struct bot *bot = arg;
    struct bots *b = bot->all;
    b->resumed += resumed != 0;
    unsigned i = 0;
    while (i < b->seen_servers && strcmp(b->servers[i], server) != 0)
        i++;
    if (i == BOTS_SERVERS_MAX)
        return;
    if (i == b->seen_servers)
        snprintf(b->servers[b->seen_servers++], BOTS_ID, "%s", server);
    b->homes[i]++;
    bot->server = (int)i;
    bot->had_home = true;
}

static void on_reconnecting(void *arg, unsigned attempt, const char *server)
{
    struct bot *bot = arg;
    if (attempt == 1 && bot->had_home)
        bot->all->lost_homes++;
    bot->server = -1;
}

/* The others of a room wait for its maker: he alone decides by his server where the room begins. */
static bool may_join(const struct bot *bot, const struct bots_seat *s, int64_t now_us)
{
    const struct bots *b = bot->all;
    return s->maker == bot || s->maker->seats[s - bot->seats].life || now_us - b->start_us > MAKER_US;
}

static void join(struct bot *bot, struct bots_seat *s, int64_t now_us)
{
    struct room_client_join j = {.type = kinds[s->kind], .room_id = s->room_id};
    int rc = room_client_join(bot->client, &j, &s->request);
    if (rc != 0)
        s->retry_at_us = now_us + RETRY_US;
}

static void speak(struct bot *bot, struct bots_seat *s, int64_t now_us)
{
    uint8_t bytes[PAYLOAD];
    struct buf out = {.data = bytes, .cap = sizeof bytes, .max = sizeof bytes, .alloc = &alloc_libc};
    char key[24];
    uint64_t n;
    if (s->kind == BOTS_COUNTER) {
        mp_write_map(&out, 1);
        mp_write_text(&out, "add");
        mp_write_int(&out, 1);
    } else {
        if (s->kind == BOTS_STATE) {
            snprintf(key, sizeof key, "b%u", bot->index);
            mp_write_map(&out, 1);
            mp_write_text(&out, "set");
            mp_write_map(&out, 1);
            mp_write_text(&out, key);
        }
        mp_write_array(&out, 4);
        mp_write_int(&out, bot->index);
        mp_write_int(&out, s->life);
        mp_write_int(&out, s->sent + 1);
        mp_write_int(&out, now_us);
    }
    if (room_client_send(bot->client, s->room, bytes, out.len, &n) != 0)
        return;
    s->sent++;
    s->open++;
    s->sent_at_us[n % BOTS_RING] = now_us;
    bot->all->sent++;
}

static void act(struct bot *bot, int64_t now_us)
{
    int64_t gap = 1000000 / bot->all->o.rate;
    for (unsigned i = 0; i < BOTS_SEATS; i++) {
        struct bots_seat *s = &bot->seats[i];
        if (!s->room && !s->request && bot->server >= 0 && now_us >= s->retry_at_us && may_join(bot, s, now_us))
            join(bot, s, now_us);
        if (s->room && now_us >= s->send_at_us && s->open < BOTS_RING) {
            speak(bot, s, now_us);
            s->send_at_us = now_us - s->send_at_us > gap ? now_us + gap : s->send_at_us + gap;
        }
    }
}

static void turn(struct bots *b, int epoll_fd, bool playing)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll_fd, events, EVENTS, TURN_MS);
    for (int i = 0; i < count; i++)
        room_client_process(((struct bot *)events[i].data.ptr)->client, 1, stats_now_us() / 1000);
    int64_t now_us = stats_now_us();
    for (unsigned i = 0; i < b->o.bots; i++) {
        if (playing)
            act(&b->bots[i], now_us);
        if (room_client_deadline_ms(b->bots[i].client) <= now_us / 1000)
            room_client_process(b->bots[i].client, 0, now_us / 1000);
    }
}

/* One whose first server is another one for each room, as far as the group goes. */
static const struct bot *maker_of(const struct bots *b, unsigned group, unsigned kind)
{
    unsigned first = group * BOTS_PER_ROOM, end = first + BOTS_PER_ROOM;
    for (unsigned i = first; i < end && i < b->o.bots; i++)
        if (i % b->server_count == (group + kind) % b->server_count)
            return &b->bots[i];
    return &b->bots[first];
}

static bool create_bot(struct bots *b, unsigned i, int epoll_fd)
{
    struct bot *bot = &b->bots[i];
    char player[BOTS_ID];
    snprintf(player, sizeof player, "bot-%x-%u", (unsigned)getpid(), i);
    *bot = (struct bot){.all = b, .index = i, .server = -1, .redirect = i / b->server_count % 2 == 0};
    struct room_client_config config = {
        .servers = b->o.servers, .first_server = i % b->server_count, .player = player, .can_redirect = bot->redirect,
        .can_relay = !bot->redirect, .arg = bot,
        .on = {.welcome = on_welcome, .joined = on_joined, .left = on_left, .message = on_message, .sent = on_sent,
               .error = on_error, .refused = on_refused, .reconnecting = on_reconnecting, .resumed = on_resumed,
               .resync = on_resync}};
    for (unsigned k = 0; k < BOTS_SEATS; k++) {
        struct bots_seat *s = &bot->seats[k];
        unsigned group = i / BOTS_PER_ROOM;
        s->kind = (enum bots_kind)k;
        s->maker = maker_of(b, group, k);
        snprintf(s->room_id, sizeof s->room_id, "bots-%x-%s-%u", (unsigned)getpid(), kinds[s->kind], group);
        s->account = bots_account(b, s->kind, s->room_id);
    }
    int rc = room_client_create(&config, &bot->client);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = bot};
    if (rc == 0)
        rc = room_client_connect(bot->client, stats_now_us() / 1000);
    if (rc == 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, room_client_fd(bot->client), &ev) != 0)
        rc = ROOM_E_IO;
    if (rc != 0)
        fprintf(stderr, "roombench: bot %u: %s (servers '%s')\n", i, room_error_text(rc), b->o.servers);
    return rc == 0;
}

static bool all_seated(const struct bots *b)
{
    for (unsigned i = 0; i < b->o.bots; i++)
        for (unsigned k = 0; k < BOTS_SEATS; k++)
            if (!b->bots[i].seats[k].room)
                return false;
    return true;
}

static void play(struct bots *b, int epoll_fd)
{
    int64_t counted = 0;
    b->start_us = stats_now_us();
    while (!all_seated(b) && stats_now_us() - b->start_us < START_US)
        turn(b, epoll_fd, true);
    int64_t end = stats_now_us() + (int64_t)b->o.seconds * 1000000;
    while (stats_now_us() < end) {
        turn(b, epoll_fd, true);
        if (stats_now_us() - counted > 1000000) {
            bots_count_rooms(b);
            counted = stats_now_us();
        }
    }
    /* Everybody speaks once more, so that silence is noticed too. */
    bots_count_rooms(b);
    for (unsigned i = 0; i < b->o.bots; i++)
        for (unsigned k = 0; k < BOTS_SEATS; k++)
            if (b->bots[i].seats[k].room)
                speak(&b->bots[i], &b->bots[i].seats[k], stats_now_us());
    end = stats_now_us() + SETTLE_US;
    do
        turn(b, epoll_fd, false);
    while (bots_outstanding(b, false) > 0 && stats_now_us() < end);
    bots_outstanding(b, true);
}

int bots_play(const struct bots_options *options)
{
    struct bots *b = calloc(1, sizeof *b);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC), rc = 1;
    bool ok = b && epoll_fd >= 0;
    if (ok) {
        b->o = *options;
        b->server_count = 1;
        for (const char *p = options->servers; *p; p++)
            b->server_count += *p == ',';
        b->bots = calloc(options->bots, sizeof *b->bots);
        b->accounts = calloc((options->bots / BOTS_PER_ROOM + 1) * BOTS_SEATS, sizeof *b->accounts);
        ok = b->bots && b->accounts;
    }
    for (unsigned i = 0; ok && i < options->bots; i++)
        ok = create_bot(b, i, epoll_fd);
    if (ok) {
        play(b, epoll_fd);
        bots_audit(b);
        rc = bots_report(b);
    }
    for (unsigned i = 0; b && b->bots && i < options->bots; i++) {
        room_client_destroy(b->bots[i].client);
        for (unsigned k = 0; k < BOTS_SEATS; k++)
            bots_forget(&b->bots[i].seats[k]);
    }
    if (b) {
        bots_accounts_free(b);
        free(b->bots);
    }
    free(b);
    if (epoll_fd >= 0)
        close(epoll_fd);
    return rc;
}
