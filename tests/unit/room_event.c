/* What comes to a room from elsewhere than its players, and what it asks of the cluster: when each is said, and again. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "room_fixture.h"

/* Says what it heard to everybody, and asks for what the first byte of a message says. */
static int asker_event(struct room *room, const struct room_event *event)
{
    char text[200];
    bool message = event->kind == ROOM_EVENT_SEND || event->kind == ROOM_EVENT_TELL;
    int what = message && event->len ? *(const uint8_t *)event->data : 0, rc = 0;
    int n = snprintf(text + 1, sizeof(text) - 1, "%d %s %llu %s %llu", event->kind, event->from ? event->from : "-",
                     (unsigned long long)event->request, room_error_name(event->code), (unsigned long long)event->token);
    if (n > 31) { /* the longer form of a string */
        memmove(text + 2, text + 1, (size_t)n);
        text[0] = (char)0xD9;
        text[1] = (char)n++;
    } else {
        text[0] = (char)(0xA0 | n);
    }
    room_broadcast(room, NULL, NULL, text, (size_t)n + 1);
    if (what == 1)
        rc = room_tell(room, "other", "\xa2hi", 3, 5);
    else if (what == 2)
        rc = room_lock_acquire(room, "gate", 1000, 200, 6);
    else if (what == 3)
        rc = room_lock_renew(room, "gate", 41, 2000, 7);
    else if (what == 4)
        rc = room_lock_release(room, "gate", 41, 8);
    else if (what == 5)
        return ROOM_E_CONFLICT;
    else if (what == 6)
        for (int i = 0; rc == 0; i++)
            rc = i < 1000 ? room_tell(room, "other", "\x01", 1, 0) : 0;
    else if (what == 7)
        rc = room_tell(room, "no id", "\x01", 1, 0);
    else if (what == 8)
        rc = room_tell(room, "other", "\xc1", 1, 0);
    else if (what == 9)
        rc = room_lock_acquire(room, "gate", 99, 0, 1);
    return rc ? rc : message ? room_reply(room, event->data, event->len) : 0;
}

static int asker_state(struct room *room, const char *player)
{
    cr_assert_eq(room_tell(room, "other", "\x01", 1, 0), ROOM_E_INVALID);
    return 0;
}

static int nil_save(struct room *room)
{
    return room_reply(room, "\xc0", 1);
}

static int nil_restore(struct room *room, const void *state, size_t len)
{
    return 0;
}

static const struct room_type asker = {.api_version = ROOM_TYPE_API_VERSION, .name = "asker", .max_players = 4,
                                       .durability = ROOM_DURABILITY_JOURNAL, .event = asker_event,
                                       .state = asker_state, .save = nil_save, .restore = nil_restore};
static const struct room_type deaf = {.api_version = ROOM_TYPE_API_VERSION, .name = "deaf", .max_players = 4};

static void journals(struct host_config *c)
{
    c->journal = true;
}

static void open_asker(struct fixture *f, void (*change)(struct host_config *))
{
    fixture_open(f, change);
    cr_assert_eq(types_add(f->types, &asker, NULL), 0);
    cr_assert_eq(types_add(f->types, &deaf, NULL), 0);
    cr_assert_eq(fixture_start(f, "r", "asker"), 0);
    cr_assert_eq(fixture_start(f, "d", "deaf"), 0);
    cr_assert_eq(host_join(f->host, &(struct host_join){.id = "r", .player = "ann", .who = 1, .session = "s-ann"}, f->now), 0);
    fixture_append_all(f);
    fixture_said(f);
}

static int hand_in(struct fixture *f, const char *room, enum room_event_kind kind, const char *data, const char *reply)
{
    struct room_event e = {.kind = kind, .from = "me", .data = data, .len = data ? 1 : 0};
    if (kind == ROOM_EVENT_LOCK || kind == ROOM_EVENT_TOLD) {
        e.request = 6;
        e.code = ROOM_E_HELD;
        e.token = 40;
    }
    return host_event(f->host, room, &e, reply, f->now);
}

Test(room_event, a_message_is_answered_with_what_the_room_replied)
{
    struct fixture f;
    open_asker(&f, NULL);
    cr_assert_eq(hand_in(&f, "r", ROOM_EVENT_SEND, "\x2a", "to-me"), 0);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"1 me 0 ok 0\"\nanswered to-me ok 42\n");
    cr_assert_eq(hand_in(&f, "r", ROOM_EVENT_TELL, "\x05", "to-me"), 0);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"2 me 0 ok 0\"\nanswered to-me conflict <0 bytes>\n");
    cr_assert_eq(hand_in(&f, "r", ROOM_EVENT_SEND, "\x2a", NULL), 0);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"1 me 0 ok 0\"\n");
    cr_assert_eq(hand_in(&f, "r", ROOM_EVENT_LOCK, NULL, NULL), 0);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"4 me 6 held 40\"\n");
    fixture_close(&f);
}

Test(room_event, what_cannot_be_taken_is_refused_at_once)
{
    struct fixture f;
    char long_reply[HOST_REPLY_MAX + 2];
    open_asker(&f, NULL);
    memset(long_reply, 'x', sizeof(long_reply) - 1);
    long_reply[sizeof(long_reply) - 1] = '\0';
    cr_assert_eq(hand_in(&f, "nobody", ROOM_EVENT_SEND, "\x01", "x"), ROOM_E_NOT_FOUND);
    cr_assert_eq(hand_in(&f, "d", ROOM_EVENT_SEND, "\x01", "x"), ROOM_E_UNSUPPORTED);
    cr_assert_eq(hand_in(&f, "r", ROOM_EVENT_SEND, "\xc1", "x"), ROOM_E_BAD_FRAME);
    cr_assert_eq(hand_in(&f, "r", ROOM_EVENT_SEND, NULL, "x"), ROOM_E_BAD_FRAME);
    cr_assert_eq(hand_in(&f, "r", ROOM_EVENT_SEND, "\x01", long_reply), ROOM_E_INVALID);
    cr_assert_eq(host_freeze(f.host, "r", true, f.now), 0);
    cr_assert_eq(hand_in(&f, "r", ROOM_EVENT_SEND, "\x01", "x"), ROOM_E_UNAVAILABLE);
    cr_assert_str_eq(fixture_said(&f), "");
    fixture_close(&f);
}

Test(room_event, what_a_room_asks_is_said_and_has_limits)
{
    struct fixture f;
    open_asker(&f, NULL);
    hand_in(&f, "r", ROOM_EVENT_SEND, "\x01", NULL);
    cr_assert(strstr(fixture_said(&f), "tell other 5 \"hi\"\n"));
    hand_in(&f, "r", ROOM_EVENT_SEND, "\x02", NULL);
    cr_assert(strstr(fixture_said(&f), "lock 1 gate ttl=1000 wait=200 token=0 request=6\n"));
    hand_in(&f, "r", ROOM_EVENT_SEND, "\x03", NULL);
    cr_assert(strstr(fixture_said(&f), "lock 2 gate ttl=2000 wait=0 token=41 request=7\n"));
    hand_in(&f, "r", ROOM_EVENT_SEND, "\x04", NULL);
    cr_assert(strstr(fixture_said(&f), "lock 3 gate ttl=0 wait=0 token=41 request=8\n"));
    hand_in(&f, "r", ROOM_EVENT_SEND, "\x06", "x");
    const char *said = fixture_said(&f);
    unsigned tells = 0;
    for (const char *at = said; (at = strstr(at, "tell other")); at++)
        tells++;
    cr_assert_eq(tells, ROOM_ASKS_MAX);
    cr_assert(strstr(said, "answered x full"), "%s", said);
    hand_in(&f, "r", ROOM_EVENT_SEND, "\x07", "x");
    cr_assert(strstr(fixture_said(&f), "answered x invalid"));
    hand_in(&f, "r", ROOM_EVENT_SEND, "\x08", "x");
    cr_assert(strstr(fixture_said(&f), "answered x bad_frame"));
    hand_in(&f, "r", ROOM_EVENT_SEND, "\x09", "x");
    cr_assert(strstr(fixture_said(&f), "answered x invalid"));
    fixture_close(&f);
}

Test(room_event, nothing_is_answered_or_asked_before_it_is_durable)
{
    struct fixture f, g;
    open_asker(&f, journals);
    cr_assert_eq(hand_in(&f, "r", ROOM_EVENT_SEND, "\x01", "to-me"), 0);
    cr_assert_eq(hand_in(&f, "r", ROOM_EVENT_LOCK, NULL, NULL), 0);
    cr_assert_eq(hand_in(&f, "r", ROOM_EVENT_SEND, "\x02", NULL), 0);
    cr_assert_str_eq(fixture_said(&f), "");
    fixture_append(&f);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"1 me 0 ok 0\"\ntell other 5 \"hi\"\nanswered to-me ok 1\n");
    fixture_append_all(&f);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"4 me 6 held 40\"\nall -0 - \"1 me 0 ok 0\"\n"
                                       "lock 1 gate ttl=1000 wait=200 token=0 request=6\n");
    fixture_open(&g, journals);
    cr_assert_eq(types_add(g.types, &asker, NULL), 0);
    cr_assert_eq(fixture_take_over(&g, "r", 9, &f), 0);
    cr_assert_str_eq(fixture_said(&g), "", "done again, and nothing is said twice");
    fixture_close(&g);
    fixture_close(&f);
}
