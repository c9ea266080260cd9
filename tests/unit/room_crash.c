/*
 * Random lives of journal rooms, cut off anywhere: what is made of image and journal is what the live room was.
 *
 * A live room is driven at random, with batches acknowledged late. Its images are kept as they come. Afterwards a random one of
 * them (or none) and the batches after it are made into a room again, up to the position of a later image, and the two
 * are compared; then the whole journal up to the crash is taken over by the next owner, who goes on with it.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "room_fixture.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"

enum { ROUNDS = 200, OWNERS = 3, PLAYERS = 5, IMAGES = 64 };

struct kept {
    struct buf bytes;
    uint64_t position;
};

struct answer {
    char text[8192];
    int64_t n;
    unsigned session;
};

static struct life {
    struct rng rng;
    struct fixture slots[2], *f; /* the present owner's, and where the next one's goes */
    const char *type;
    uint64_t last_who, who[PLAYERS];
    unsigned session[PLAYERS];
    int64_t n[PLAYERS];
    struct kept images[IMAGES];
    size_t count;
    unsigned seen; /* images of the fixture */
} life;

static uint64_t pick(uint64_t n)
{
    return rng_below(&life.rng, n);
}

/* `gambler` is done again by its callbacks, `ledger` by its changes: its callbacks never do the same twice. */
static int64_t sum_of(struct room *room)
{
    return *(int64_t *)room_user(room);
}

static void set_sum(struct room *room, int64_t sum)
{
    uint8_t bytes[16];
    struct buf b = {.data = bytes, .cap = sizeof(bytes), .max = sizeof(bytes), .alloc = &alloc_libc};
    static int64_t noise;
    int64_t made = sum + noise;
    mp_write_int(&b, made);
    if (room_record(room, bytes, b.len) == ROOM_E_UNSUPPORTED)
        made = sum;
    noise++;
    *(int64_t *)room_user(room) = made;
}

static int gambler_create(struct room *room, const void *options, size_t len)
{
    int64_t *sum = room_alloc(room, sizeof(*sum));
    *sum = (int64_t)room_random(room, 1000);
    room_set_user(room, sum);
    return 0;
}

static int gambler_apply(struct room *room, const void *data, size_t len)
{
    struct mp_read r;
    struct mp_token t;
    mp_read_init(&r, data, len);
    if (mp_next(&r, &t, NULL) != 0 || t.type != MP_INT)
        return ROOM_E_BAD_FRAME;
    *(int64_t *)room_user(room) = t.i;
    return 0;
}

static int gambler_restore(struct room *room, const void *data, size_t len)
{
    gambler_create(room, NULL, 0);
    int rc = gambler_apply(room, data, len);
    if (rc)
        room_free(room, room_user(room), sizeof(int64_t));
    return rc;
}

static int reply_sum(struct room *room)
{
    uint8_t bytes[16];
    struct buf b = {.data = bytes, .cap = sizeof(bytes), .max = sizeof(bytes), .alloc = &alloc_libc};
    mp_write_int(&b, sum_of(room));
    room_broadcast(room, NULL, NULL, bytes, b.len);
    return room_reply(room, bytes, b.len);
}

static int gambler_join(struct room *room, const char *player, const void *options, size_t len)
{
    if (room_random(room, 10) == 0)
        return ROOM_E_UNAUTHORIZED;
    set_sum(room, sum_of(room) + 1 + room_player_count(room));
    return 0;
}

static void gambler_leave(struct room *room, const char *player, const char *reason)
{
    set_sum(room, sum_of(room) + (int64_t)strlen(reason) * 1000);
}

static int gambler_message(struct room *room, const char *player, const void *data, size_t len)
{
    const uint8_t *k = data;
    unsigned other = (unsigned)room_random(room, room_player_count(room));
    set_sum(room, sum_of(room) + (int64_t)room_random(room, 100) + room_now_ms(room) % 7);
    switch (*k % 32) {
    case 1:
        (room_random(room, 2) ? room_lock : room_unlock)(room);
        break;
    case 2:
        room_set_metadata(room, k, len);
        break;
    case 3:
        room_kick(room, room_player(room, other), "unlucky");
        break;
    case 4:
        if (room_random(room, 8) == 0)
            room_close(room, "bust");
        break;
    case 5:
        return ROOM_E_CONFLICT;
    }
    return reply_sum(room);
}

/* What comes from elsewhere, by all that is in it; and something is asked in turn. */
static int gambler_event(struct room *room, const struct room_event *event)
{
    int64_t from = event->from ? (int64_t)strlen(event->from) : 7;
    bool message = event->kind == ROOM_EVENT_SEND || event->kind == ROOM_EVENT_TELL;
    if (event->len % 3 == 2 && room_random(room, 4) == 0)
        return ROOM_E_CONFLICT;
    set_sum(room, sum_of(room) + event->kind * 3 + from * 5 + (int64_t)event->request * 7 - event->code * 11 +
                      (int64_t)event->token * 13 + (event->len ? *(const uint8_t *)event->data : 0));
    if (room_random(room, 2))
        (void)room_tell(room, "elsewhere", "\x01", 1, (uint64_t)sum_of(room));
    (void)room_lock_acquire(room, "l", 1000, 0, 1 + room_random(room, 5));
    return message ? reply_sum(room) : 0;
}

static void gambler_tick(struct room *room, int64_t now_ms, int64_t dt_ms)
{
    if (room_random(room, 3) == 0)
        set_sum(room, sum_of(room) + now_ms % 11 + dt_ms);
    if (room_random(room, 30) == 0 && room_player(room, 0))
        room_kick(room, room_player(room, 0), "slow");
}

static int gambler_state(struct room *room, const char *player)
{
    room_random(room, 5);
    return strcmp(player, "p4") == 0 && sum_of(room) % 4 == 0 ? ROOM_E_CONFLICT : room_reply(room, "\x01", 1);
}

static int gambler_save(struct room *room)
{
    uint8_t bytes[16];
    struct buf b = {.data = bytes, .cap = sizeof(bytes), .max = sizeof(bytes), .alloc = &alloc_libc};
    mp_write_int(&b, sum_of(room));
    return room_reply(room, bytes, b.len);
}

static void gambler_dispose(struct room *room)
{
    room_free(room, room_user(room), sizeof(int64_t));
}

#define GAMBLER(type_name, apply_fn)                                                                                 \
    {                                                                                                                \
        .api_version = ROOM_TYPE_API_VERSION, .name = type_name, .max_players = 4, .tick_ms = 100,                   \
        .durability = ROOM_DURABILITY_JOURNAL, .create = gambler_create, .join = gambler_join,                       \
        .leave = gambler_leave, .message = gambler_message, .tick = gambler_tick, .state = gambler_state,            \
        .dispose = gambler_dispose, .save = gambler_save, .restore = gambler_restore, .apply = apply_fn,             \
        .event = gambler_event                                                                                       \
    }

static const struct room_type gambler = GAMBLER("gambler", NULL);
static const struct room_type ledger = GAMBLER("ledger", gambler_apply);

static void journals(struct host_config *c)
{
    c->journal = true;
    c->hold_ms = 1500;
    c->seed = life.rng.s[0];
}

static void open_host(struct fixture *f)
{
    fixture_open(f, journals);
    cr_assert_eq(types_add(f->types, &gambler, NULL), 0);
    cr_assert_eq(types_add(f->types, &ledger, NULL), 0);
    cr_assert_eq(types_load(f->types, TICTACTOE, NULL), 0);
    cr_assert_eq(types_variant(f->types, "doc=state,durability=journal,max_players=4", NULL), 0);
    f->now.us += (int64_t)pick(1000000000);
}

static const char *player(size_t i)
{
    static const char *const names[] = {"p0", "p1", "p2", "p3", "p4"};
    return names[i];
}

static void session_of(size_t i, char out[16])
{
    snprintf(out, 16, "s%zu-%u", i, life.session[i]);
}

static void random_message(struct buf *b)
{
    char text[256];
    const char *type = life.type;
    unsigned a = (unsigned)pick(9), k = (unsigned)pick(20);
    if (strcmp(type, "counter") == 0)
        snprintf(text, sizeof(text), "{\"%s\":%u}", k ? "add" : "sub", a);
    else if (strcmp(type, "doc") == 0 && k < 8)
        snprintf(text, sizeof(text), "{\"set\":{\"k%u\":[%u],\"k%u\":\"%0100u\"}}", a, k, k, a);
    else if (strcmp(type, "doc") == 0 && k < 12)
        snprintf(text, sizeof(text), "{\"delete\":[\"k%u\"]}", a);
    else if (strcmp(type, "doc") == 0)
        snprintf(text, sizeof(text), "{\"cas\":{\"key\":\"k%u\",\"expect\":null,\"value\":%u}}", a, k);
    else
        snprintf(text, sizeof(text), "%u", strcmp(type, "tictactoe") == 0 ? a : (unsigned)pick(100));
    fixture_pack(b, text);
}

static void step_join(size_t i)
{
    struct fixture *f = life.f;
    char session[16], ticket[HOST_TICKET_SIZE];
    struct host_join j = {.id = "r", .player = player(i), .session = session, .who = life.last_who + 1};
    uint64_t way = pick(4);
    bool reserved = way && host_reserve(f->host, "r", player(i), f->now, ticket) == 0;
    if (reserved && way == 1)
        return; /* takes it later, perhaps, without the ticket and after others */
    if (reserved)
        j.ticket = ticket;
    if (pick(3))
        life.session[i]++;
    session_of(i, session);
    if (host_join(f->host, &j, f->now) == 0) {
        life.who[i] = ++life.last_who;
        life.n[i] += 100; /* numbers are the session's: beyond what any room has heard */
    }
}

static void step_player(size_t i)
{
    struct fixture *f = life.f;
    char session[16];
    struct buf b;
    switch (pick(16)) {
    case 0:
        (void)host_leave(f->host, "r", life.who[i], pick(2) ? "left" : NULL, f->now);
        return;
    case 1:
        (void)host_hold(f->host, "r", life.who[i], f->now);
        return;
    case 2:
        session_of(i, session);
        if (host_attach(f->host, "r", player(i), session, life.last_who + 1, f->now) == 0)
            life.who[i] = ++life.last_who;
        return;
    case 3:
    case 4:
        step_join(i);
        return;
    default:
        buf_init(&b, &alloc_libc, 1 << 20);
        random_message(&b);
        if (host_message(f->host, "r", life.who[i], pick(20) ? life.n[i] + 1 : life.n[i], b.data, b.len, f->now) == 0)
            life.n[i]++;
        buf_deinit(&b);
    }
}

static void step_event(void)
{
    static const enum room_event_kind kinds[] = {ROOM_EVENT_SEND, ROOM_EVENT_TELL, ROOM_EVENT_TOLD, ROOM_EVENT_LOCK};
    struct buf b;
    struct room_event event = {.kind = kinds[pick(4)], .from = pick(3) ? "somebody" : NULL};
    bool message = event.kind == ROOM_EVENT_SEND || event.kind == ROOM_EVENT_TELL;
    buf_init(&b, &alloc_libc, 1 << 20);
    if (message)
        random_message(&b);
    event.data = b.data;
    event.len = b.len;
    if (!message) {
        event.request = pick(9);
        event.code = pick(2) ? 0 : ROOM_E_HELD;
        event.token = pick(1000);
    }
    int rc = host_event(life.f->host, "r", &event, message && pick(2) ? "reply" : NULL, life.f->now);
    cr_assert_neq(rc, ROOM_E_BAD_FRAME);
    buf_deinit(&b);
}

static void keep_images(void)
{
    if (life.f->images == life.seen)
        return;
    life.seen = life.f->images;
    if (life.count == IMAGES)
        return;
    struct kept *k = &life.images[life.count++];
    buf_init(&k->bytes, &alloc_libc, SIZE_MAX);
    buf_write(&k->bytes, life.f->image.data, life.f->image.len);
    k->position = life.f->position;
}

static void step(void)
{
    struct fixture *f = life.f;
    switch (pick(13)) {
    case 12:
        step_event();
        break;
    case 0:
    case 1:
        f->now = mono_add_ms(f->now, (int64_t)pick(400));
        host_tick(f->host, f->now);
        break;
    case 2:
        if (pick(4) == 0)
            (void)host_lock(f->host, "r", pick(2), f->now);
        break;
    case 3:
        if (pick(6) == 0)
            (void)host_kick(f->host, "r", player(pick(PLAYERS)), "rude", f->now);
        break;
    case 4:
        (void)host_snapshot(f->host, "r", f->now);
        break;
    case 5:
    case 6:
        if (f->journal->number)
            fixture_append(f);
        break;
    default:
        step_player(pick(PLAYERS));
    }
    keep_images();
}

/* All fields of an image but epoch, version and age, which are the owner's (and the last tick of a type whose ticks are not
 * recorded). */
static void comparable(const struct buf *image, char *out, size_t size)
{
    struct mp_read r;
    struct mp_token head;
    struct wire_raw field;
    struct fixture show = {0};
    out[0] = '\0';
    mp_read_init(&r, image->data, image->len);
    cr_assert(mp_next(&r, &head, NULL) == 0);
    for (uint32_t i = 0; i < head.count; i++) {
        cr_assert(mp_skip(&r, WIRE_DEPTH_MAX, &field, NULL) == 0);
        if (i == 2 || i == 3 || i == 5 || (i == 6 && strcmp(life.type, "ledger") == 0))
            continue;
        buf_init(&show.reply, &alloc_libc, SIZE_MAX);
        buf_write(&show.reply, field.data, field.len);
        snprintf(out + strlen(out), size - strlen(out), "%s\n", fixture_reply(&show));
        buf_deinit(&show.reply);
    }
}

/* 0, CANCELLED, or what went wrong. */
static int take_over(struct fixture *g, const struct kept *base, const struct fixture_journal *j, uint64_t upto, uint64_t epoch)
{
    struct host_restore r = {.id = "r", .epoch = epoch, .image = base ? base->bytes.data : NULL,
                             .image_len = base ? base->bytes.len : 0, .position = base ? base->position : 0};
    int rc = host_restore(g->host, &r, g->now, NULL);
    for (size_t i = 0; i < j->count && rc == 0; i++)
        if (j->batches[i].sequence > r.position && j->batches[i].sequence <= upto)
            rc = host_replay(g->host, "r", j->batches[i].sequence, j->bytes.data + j->batches[i].at, j->batches[i].len);
    return rc ? rc : host_resume(g->host, "r", g->now);
}

static void compare_two(uint64_t seed)
{
    static char live[65536], again[65536];
    if (life.count == 0)
        return;
    size_t to = pick(life.count), from = pick(to + 2);
    struct fixture g;
    open_host(&g);
    int rc = take_over(&g, from ? &life.images[from - 1] : NULL, life.f->journal, life.images[to].position, 99);
    cr_assert_eq(rc, 0, "seed %llu: %s", (unsigned long long)seed, room_error_name(rc));
    cr_assert_eq(g.journal->number, 0, "nothing was left to be done");
    cr_assert_eq(host_snapshot(g.host, "r", g.now), 0);
    comparable(&life.images[to].bytes, live, sizeof(live));
    comparable(&g.image, again, sizeof(again));
    cr_assert_str_eq(live, again, "seed %llu %s", (unsigned long long)seed, life.type);
    fixture_close(&g);
}

/* What the players were told last, asked for again: the same from the live room and from the next owner's. */
static void ask_again(struct fixture *f, struct answer out[PLAYERS])
{
    char session[16];
    for (size_t i = 0; i < PLAYERS; i++) {
        out[i].text[0] = '\0';
        session_of(i, session);
        if (host_attach(f->host, "r", player(i), session, life.last_who + 1, f->now))
            continue;
        life.who[i] = ++life.last_who;
        for (int64_t n = life.n[i] - 3; n <= life.n[i]; n++) {
            fixture_said(f);
            int rc = host_message(f->host, "r", life.who[i], n > 0 ? n : 1, "\xc1", 1, f->now);
            const char *answer = strstr(fixture_said(f), "sent ");
            snprintf(out[i].text + strlen(out[i].text), sizeof(out[i].text) - strlen(out[i].text), "%s",
                     answer ? strchr(answer + 5, ' ') : room_error_name(rc));
        }
    }
}

/* Crash: what is on its way is lost. The next owner goes on with the journal. False: the room had ended. */
static bool crash(uint64_t seed, uint64_t epoch)
{
    static struct answer before[PLAYERS], after[PLAYERS];
    struct fixture_journal *j = life.f->journal;
    struct fixture *old = life.f;
    bool clean = pick(2) == 0;
    if (clean)
        fixture_append_all(old);
    const struct room *r = host_find(old->host, "r");
    bool asked = clean && r;
    keep_images();
    if (asked)
        ask_again(old, before);
    size_t from = pick(life.count + 1);
    life.f = old == life.slots ? life.slots + 1 : life.slots;
    open_host(life.f);
    int rc = take_over(life.f, from ? &life.images[from - 1] : NULL, j, UINT64_MAX, epoch);
    cr_assert(rc == (clean && !r ? ROOM_E_CANCELLED : 0) || (!clean && rc == ROOM_E_CANCELLED) ||
                  (rc == ROOM_E_NOT_FOUND && !j->count),
              "seed %llu %s: %s", (unsigned long long)seed, life.type, room_error_name(rc));
    if (rc == 0 && asked) {
        ask_again(life.f, after);
        for (size_t i = 0; i < PLAYERS; i++)
            cr_assert_str_eq(before[i].text, after[i].text, "seed %llu %s", (unsigned long long)seed, life.type);
    }
    life.seen = life.f->images;
    struct fixture_journal *fresh = life.f->journal;
    buf_write(&fresh->bytes, j->bytes.data, j->bytes.len);
    memcpy(fresh->batches, j->batches, sizeof(j->batches));
    fresh->count = j->count;
    fresh->sequence = j->sequence;
    fixture_close(old);
    return rc == 0;
}

static void live_and_die(uint64_t seed, const char *type)
{
    memset(&life, 0, sizeof(life));
    rng_init(&life.rng, seed);
    life.type = type;
    life.f = life.slots;
    open_host(life.f);
    bool lives = fixture_start(life.f, "r", type) == 0;
    for (uint64_t epoch = 1; epoch <= OWNERS && lives; epoch++) {
        for (uint64_t steps = pick(120); steps > 0; steps--)
            step();
        compare_two(seed);
        lives = crash(seed, epoch + 1);
    }
    for (size_t i = 0; i < life.count; i++)
        buf_deinit(&life.images[i].bytes);
    fixture_close(life.f);
}

#define LIVES(type)                                                                                                  \
    Test(room_crash, type, .timeout = 120)                                                                           \
    {                                                                                                                \
        for (uint64_t seed = 1; seed <= ROUNDS; seed++)                                                              \
            live_and_die(seed, #type);                                                                               \
    }

LIVES(counter)
LIVES(doc)
LIVES(tictactoe)
LIVES(gambler)
LIVES(ledger)
