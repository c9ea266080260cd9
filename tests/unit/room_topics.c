/* What rooms subscribe to, publish and tell players: when it is said, and that patterns come back with their room. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "room_fixture.h"

/* Does what the first character of a short string says, to the rest of it; says what it heard. */
static int ear_event(struct room *room, const struct room_event *event)
{
    char text[160], word[160] = "";
    const char *data = event->data;
    size_t len = event->len && ((uint8_t)data[0] & 0xE0) == 0xA0 ? event->len - 1 : 0;
    if (event->kind == ROOM_EVENT_TOPIC || event->kind == ROOM_EVENT_PLAYER) {
        int n = snprintf(text + 2, sizeof(text) - 2, "%d %s %s", event->kind, event->from, room_error_name(event->code));
        text[0] = (char)0xD9;
        text[1] = (char)n;
        return room_broadcast(room, NULL, NULL, text, (size_t)n + 2);
    }
    if (len < 1)
        return ROOM_E_INVALID;
    memcpy(word, data + 2, len - 1);
    switch (data[1]) {
    case 's': return room_subscribe(room, word);
    case 'u': return room_unsubscribe(room, word);
    case 'p': return room_publish(room, word, "\x07", 1);
    case 'b': return room_publish(room, word, "\xc1", 1);
    case 't': return room_tell_player(room, word, "\x07", 1, 3);
    default:  return ROOM_E_UNKNOWN_OP;
    }
}

static int ear_create(struct room *room, const void *options, size_t len)
{
    cr_assert_eq(room_publish(room, "a", "\x07", 1), ROOM_E_INVALID, "not in create()");
    return room_subscribe(room, "born.>");
}

static int nil_save(struct room *room)
{
    cr_assert_eq(room_subscribe(room, "x"), ROOM_E_INVALID, "not in save()");
    return room_reply(room, "\xc0", 1);
}

static int nil_restore(struct room *room, const void *state, size_t len)
{
    return 0;
}

static int no_apply(struct room *room, const void *data, size_t len)
{
    return 0;
}

static const struct room_type ear = {.api_version = ROOM_TYPE_API_VERSION, .name = "ear", .max_players = 4,
                                     .durability = ROOM_DURABILITY_JOURNAL, .create = ear_create, .event = ear_event,
                                     .save = nil_save, .restore = nil_restore};
static const struct room_type applied = {.api_version = ROOM_TYPE_API_VERSION, .name = "applied", .max_players = 4,
                                         .durability = ROOM_DURABILITY_JOURNAL, .create = ear_create, .event = ear_event,
                                         .save = nil_save, .restore = nil_restore, .apply = no_apply};

static void journals(struct host_config *c)
{
    c->journal = true;
}

static void open_ears(struct fixture *f, void (*change)(struct host_config *))
{
    fixture_open(f, change);
    cr_assert_eq(types_add(f->types, &ear, NULL), 0);
    cr_assert_eq(types_add(f->types, &applied, NULL), 0);
}

/* What came of it. */
static const char *tell(struct fixture *f, const char *word)
{
    char text[64];
    int n = snprintf(text + 1, sizeof(text) - 1, "%s", word);
    text[0] = (char)(0xA0 | n);
    struct room_event e = {.kind = ROOM_EVENT_SEND, .data = text, .len = (size_t)n + 1};
    cr_assert_eq(host_event(f->host, "r", &e, "me", f->now), 0);
    return fixture_said(f);
}

static const char *topics_of(const struct fixture *f, const char *room)
{
    static char text[4096];
    const struct room *r = host_find(f->host, room);
    text[0] = '\0';
    for (const char *t = host_room_topic(r, NULL); t; t = host_room_topic(r, t))
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", text[0] ? " " : "", t);
    return text;
}

Test(room_topics, patterns_and_topics)
{
    struct fixture f;
    open_ears(&f, NULL);
    cr_assert_eq(fixture_start(&f, "r", "ear"), 0);
    fixture_said(&f);
    cr_assert_str_eq(topics_of(&f, "r"), "born.>", "where it begins, whoever runs it asks");
    cr_assert_str_eq(tell(&f, "sgames.*.over"), "answered me ok <0 bytes>\ntopics born.> games.*.over\n");
    cr_assert_str_eq(tell(&f, "sgames.*.over"), "answered me ok <0 bytes>\n");
    static const char *const bad[] = {"s", "s.", "sa.", "s.a", "sa..b", "s>.a", "sa.b*", "sa b", "sa$", "p*", "pa.>", "pa.", "p"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_str_eq(tell(&f, bad[i]), "answered me invalid <0 bytes>\n", "%s", bad[i]);
    cr_assert_str_eq(tell(&f, "ugames"), "answered me not_found <0 bytes>\n");
    cr_assert_str_eq(tell(&f, "ugames.*.over"), "answered me ok <0 bytes>\ntopics born.>\n");
    cr_assert_str_eq(tell(&f, "pgames.7.over"), "publish games.7.over 0 7\nanswered me ok <0 bytes>\n");
    cr_assert_str_eq(tell(&f, "bgames"), "answered me bad_frame <0 bytes>\n");
    cr_assert_str_eq(tell(&f, "tann"), "player ann 3 7\nanswered me ok <0 bytes>\n");
    cr_assert_str_eq(tell(&f, "tno one"), "answered me invalid <0 bytes>\n");
    for (int i = 1; i < ROOM_TOPICS_MAX; i++) {
        char word[16];
        snprintf(word, sizeof(word), "st%d", i);
        cr_assert(strstr(tell(&f, word), "answered me ok"), "%d", i);
    }
    cr_assert_str_eq(tell(&f, "sone.more"), "answered me full <0 bytes>\n");
    fixture_close(&f);
}

Test(room_topics, what_was_published_is_heard)
{
    struct fixture f;
    open_ears(&f, NULL);
    cr_assert_eq(fixture_start(&f, "r", "ear"), 0);
    cr_assert_eq(fixture_join(&f, "r", "ann", 1, NULL), 0);
    fixture_said(&f);
    struct room_event e = {.kind = ROOM_EVENT_TOPIC, .from = "born.at.last", .data = "\x07", .len = 1};
    cr_assert_eq(host_event(f.host, "r", &e, NULL, f.now), 0);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"6 born.at.last ok\"\n");
    e.from = "born.*";
    cr_assert_eq(host_event(f.host, "r", &e, NULL, f.now), ROOM_E_INVALID);
    e.from = "born";
    e.data = "\xc1";
    cr_assert_eq(host_event(f.host, "r", &e, NULL, f.now), ROOM_E_BAD_FRAME);
    fixture_close(&f);
}

/* From the journal alone, and from an image with the rest of the journal; by the callbacks, and by apply(). */
static void comes_back(const char *type)
{
    struct fixture f, g, h;
    open_ears(&f, journals);
    cr_assert_eq(fixture_start(&f, "r", type), 0);
    fixture_append_all(&f);
    fixture_said(&f);
    cr_assert_str_eq(tell(&f, "sone"), "", "not before it is durable");
    fixture_append_all(&f);
    cr_assert_str_eq(fixture_said(&f), "answered me ok <0 bytes>\ntopics born.> one\n");
    struct room_event e = {.kind = ROOM_EVENT_TOPIC, .from = "one", .data = "\x07", .len = 1};
    cr_assert_eq(host_event(f.host, "r", &e, NULL, f.now), 0);
    tell(&f, "uborn.>");
    fixture_append_all(&f);
    open_ears(&g, journals);
    cr_assert_eq(fixture_take_over(&g, "r", 9, &f), 0);
    cr_assert_str_eq(topics_of(&g, "r"), "one");
    cr_assert_str_eq(fixture_said(&g), "", "done again, and nothing is said twice");
    cr_assert_eq(host_snapshot(f.host, "r", f.now), 0);
    fixture_append_all(&f);
    cr_assert_gt(f.image.len, 0);
    tell(&f, "stwo.*");
    fixture_append_all(&f);
    open_ears(&h, journals);
    cr_assert_eq(fixture_take_over(&h, "r", 9, &f), 0);
    cr_assert_str_eq(topics_of(&h, "r"), "one two.*");
    fixture_close(&h);
    fixture_close(&g);
    fixture_close(&f);
}

Test(room_topics, they_come_back_with_their_room)
{
    comes_back("ear");
    comes_back("applied");
}

/* Whatever is changed in an image, a room comes of it that could have written it, or none. */
Test(room_topics, damaged_images)
{
    struct fixture f;
    open_ears(&f, NULL);
    cr_assert_eq(fixture_start(&f, "r", "ear"), 0);
    tell(&f, "sa.b");
    cr_assert_eq(host_snapshot(f.host, "r", f.now), 0);
    unsigned made = 0;
    for (size_t i = 0; i < f.image.len; i++) {
        for (int change = 1; change < 256; change += 7) {
            struct fixture g;
            struct err_detail why;
            open_ears(&g, NULL);
            f.image.data[i] ^= (uint8_t)change;
            struct host_restore r = {.id = "r", .epoch = 9, .image = f.image.data, .image_len = f.image.len};
            if (host_restore(g.host, &r, g.now, &why) == 0 && host_resume(g.host, "r", g.now) == 0) {
                const struct room *room = host_find(g.host, "r");
                made++;
                for (const char *t = host_room_topic(room, NULL); t; t = host_room_topic(room, t))
                    cr_assert(!strpbrk(t, " $\t") && *t, "%s", t);
            }
            f.image.data[i] ^= (uint8_t)change;
            fixture_close(&g);
        }
    }
    cr_assert_gt(made, 0);
    fixture_close(&f);
}
