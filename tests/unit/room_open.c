/* What a room has asked services and of shared data: when it is said, that it is open until it is answered, and is said again
 * by the room's next owner under the same numbers. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "room_fixture.h"

/* Does what the first character of a short string says; says what it heard. */
static int asker_event(struct room *room, const struct room_event *event)
{
    char text[160], word[160] = "";
    const char *data = event->data;
    size_t len = event->len && ((uint8_t)data[0] & 0xE0) == 0xA0 ? event->len - 1 : 0;
    if (event->kind == ROOM_EVENT_SERVICE || event->kind == ROOM_EVENT_SHARED) {
        int n = snprintf(text + 2, sizeof(text) - 2, "%d %s %llu %s %zu %llu", event->kind, event->from,
                         (unsigned long long)event->request, room_error_name(event->code), event->len,
                         (unsigned long long)event->token);
        text[0] = (char)0xD9;
        text[1] = (char)n;
        (void)room_broadcast(room, NULL, NULL, text, (size_t)n + 2);
        return event->token == 99 ? room_shared_get(room, "next", 8) : 0;
    }
    if (len < 1)
        return ROOM_E_INVALID;
    memcpy(word, data + 2, len - 1);
    switch (data[1]) {
    case 's': return room_request(room, word, "\x07", 1, 1000, 5);
    case 'q': return room_request(room, word, "\x07", 1, 1000, 0);
    case 't': return room_request(room, word, "\x07", 1, 49, 5);
    case 'b': return room_request(room, word, "\xc1", 1, 1000, 5);
    case 'g': return room_shared_get(room, word, 1);
    case 'v': return room_shared_set(room, word, "\x07", 1, 2000, 0, 2);
    case 'e': return room_shared_set(room, word, "\x07", 1, 99, 0, 2);
    case 'n': return room_shared_set(room, word, "\xc0", 1, 0, 0, 2);
    case 'd': return room_shared_delete(room, word, ROOM_SHARED_ANY, 3);
    case 'a': return room_shared_add(room, word, -4, 0, 4);
    case 'i': return room_shared_insert(room, "set", word, 0, 5);
    case 'r': return room_shared_remove(room, "set", word, 6);
    default:  return ROOM_E_UNKNOWN_OP;
    }
}

static int asker_create(struct room *room, const void *options, size_t len)
{
    cr_assert_eq(room_shared_get(room, "a", 1), ROOM_E_INVALID, "not in create()");
    return 0;
}

static int nil_save(struct room *room)
{
    cr_assert_eq(room_request(room, "a", "\x07", 1, 1000, 1), ROOM_E_INVALID, "not in save()");
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

static const struct room_type asker = {.api_version = ROOM_TYPE_API_VERSION, .name = "asker", .max_players = 4,
                                       .durability = ROOM_DURABILITY_JOURNAL, .create = asker_create, .event = asker_event,
                                       .save = nil_save, .restore = nil_restore};
static const struct room_type applied = {.api_version = ROOM_TYPE_API_VERSION, .name = "applied", .max_players = 4,
                                         .durability = ROOM_DURABILITY_JOURNAL, .create = asker_create, .event = asker_event,
                                         .save = nil_save, .restore = nil_restore, .apply = no_apply};

static void journals(struct host_config *c)
{
    c->journal = true;
}

static void open_asker(struct fixture *f, void (*change)(struct host_config *))
{
    fixture_open(f, change);
    cr_assert_eq(types_add(f->types, &asker, NULL), 0);
    cr_assert_eq(types_add(f->types, &applied, NULL), 0);
}

/* What came of it, without the answer of an `ok`. */
static const char *tell(struct fixture *f, const char *word)
{
    static char out[8192];
    char text[64];
    int n = snprintf(text + 1, sizeof(text) - 1, "%s", word);
    text[0] = (char)(0xA0 | n);
    struct room_event e = {.kind = ROOM_EVENT_SEND, .data = text, .len = (size_t)n + 1};
    cr_assert_eq(host_event(f->host, "r", &e, "me", f->now), 0);
    if (f->journal)
        fixture_append_all(f);
    snprintf(out, sizeof(out), "%s", fixture_said(f));
    char *ok = strstr(out, "answered me ok <0 bytes>\n");
    if (ok)
        *ok = '\0';
    return out;
}

static int answer(struct fixture *f, uint64_t number, int code, const char *data, uint64_t token)
{
    struct room_event e = {.code = code, .data = data, .len = strlen(data), .token = token};
    return host_done(f->host, "r", number, &e, f->now);
}

Test(room_open, what_is_asked_and_refused)
{
    struct fixture f;
    open_asker(&f, NULL);
    cr_assert_eq(fixture_start(&f, "r", "asker"), 0);
    fixture_said(&f);
    cr_assert_str_eq(tell(&f, "sshop"), "service shop 5 #1.1 verb 0 limit 1000 expect 0 by 0 7\n");
    cr_assert_str_eq(tell(&f, "ga.b"), "shared a.b 1 #1.2 verb 0 limit 0 expect 0 by 0 <0 bytes>\n");
    cr_assert_str_eq(tell(&f, "va"), "shared a 2 #1.3 verb 1 limit 2000 expect 0 by 0 7\n");
    cr_assert_str_eq(tell(&f, "da"), "shared a 3 #1.4 verb 2 limit 0 expect -1 by 0 <0 bytes>\n");
    cr_assert_str_eq(tell(&f, "aa"), "shared a 4 #1.5 verb 3 limit 0 expect 0 by -4 <0 bytes>\n");
    static const char *const bad[] = {"sno one", "s", "ta", "e", "ea", "na", "g", "ga.", "ga.*", "g.a", "i", "r"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_str_eq(tell(&f, bad[i]), "answered me invalid <0 bytes>\n", "%s", bad[i]);
    cr_assert_str_eq(tell(&f, "bshop"), "answered me bad_frame <0 bytes>\n");
    for (int i = 5; i < ROOM_OPEN_MAX; i++)
        cr_assert_str_neq(tell(&f, "gx"), "answered me full <0 bytes>\n", "%d", i);
    cr_assert_str_eq(tell(&f, "gx"), "answered me full <0 bytes>\n");
    cr_assert_eq(answer(&f, 1, 0, "\x07", 0), 0);
    cr_assert(strstr(tell(&f, "gx"), "#1.65 "), "one is open no more");
    cr_assert_eq(answer(&f, 1, 0, "\x07", 0), ROOM_E_NOT_FOUND, "once");
    cr_assert_eq(answer(&f, 66, 0, "\x07", 0), ROOM_E_NOT_FOUND);
    fixture_close(&f);
}

Test(room_open, an_answer_is_heard)
{
    struct fixture f;
    open_asker(&f, NULL);
    cr_assert_eq(fixture_start(&f, "r", "asker"), 0);
    cr_assert_eq(fixture_join(&f, "r", "ann", 1, NULL), 0);
    tell(&f, "sshop");
    tell(&f, "qshop");
    tell(&f, "aa");
    tell(&f, "ga");
    cr_assert_eq(host_freeze(f.host, "r", true, f.now), 0);
    fixture_said(&f);
    cr_assert_eq(answer(&f, 1, 0, "\x07", 0), ROOM_E_UNAVAILABLE, "it stands still");
    cr_assert_eq(host_freeze(f.host, "r", false, f.now), 0);
    fixture_said(&f);
    cr_assert_eq(answer(&f, 1, 0, "\x07", 0), 0);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"7 shop 5 ok 1 0\"\n");
    cr_assert_eq(answer(&f, 2, ROOM_E_TIMEOUT, "", 0), 0);
    cr_assert_str_eq(fixture_said(&f), "", "nobody wanted to know");
    cr_assert_eq(answer(&f, 3, ROOM_E_UNAVAILABLE, "\xc0", 41), 0);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"8 a 4 unavailable 0 41\"\n", "nil is nothing");
    cr_assert_eq(answer(&f, 4, 0, "\x07", 99), 0);
    cr_assert_str_eq(fixture_said(&f),
                     "all -0 - \"8 a 1 ok 1 99\"\nshared next 8 #1.5 verb 0 limit 0 expect 0 by 0 <0 bytes>\n");
    host_unsaid(f.host, "r", 5);
    cr_assert_eq(host_freeze(f.host, "r", true, f.now), 0);
    fixture_said(&f);
    cr_assert_not(host_say_again(f.host, "r", f.now));
    cr_assert_eq(host_freeze(f.host, "r", false, f.now), 0);
    fixture_said(&f);
    cr_assert(host_say_again(f.host, "r", f.now));
    cr_assert_str_eq(fixture_said(&f), "shared next 8 #1.5 verb 0 limit 0 expect 0 by 0 <0 bytes> again\n");
    cr_assert(host_say_again(f.host, "r", f.now));
    cr_assert_str_eq(fixture_said(&f), "", "once");
    fixture_close(&f);
}

/* From the journal alone, and from an image with the rest of the journal; by the callbacks, and by apply(). */
static void comes_back(const char *type)
{
    struct fixture f, g, h;
    open_asker(&f, journals);
    cr_assert_eq(fixture_start(&f, "r", type), 0);
    fixture_append_all(&f);
    fixture_said(&f);
    tell(&f, "sone");
    tell(&f, "aa");
    tell(&f, "ianna");
    cr_assert_eq(answer(&f, 1, 0, "\x07", 0), 0);
    fixture_append_all(&f);
    struct room_event e = {.kind = ROOM_EVENT_SEND, .data = "\xa2gz", .len = 3};
    cr_assert_eq(host_event(f.host, "r", &e, "me", f.now), 0);
    cr_assert_str_eq(fixture_said(&f), "", "not before it is durable");
    open_asker(&g, journals);
    cr_assert_eq(fixture_take_over(&g, "r", 9, &f), 0);
    cr_assert_str_eq(fixture_said(&g), "shared a 4 #1.2 verb 3 limit 0 expect 0 by -4 <0 bytes> again\n"
                                       "shared set 5 #1.3 verb 4 limit 0 expect 0 by 0 <4 bytes> again\n",
                     "what was not answered is asked again, under its numbers");
    cr_assert_str_eq(tell(&g, "gy"), "shared y 1 #9.4 verb 0 limit 0 expect 0 by 0 <0 bytes>\n");
    cr_assert_eq(answer(&g, 2, 0, "\x05", 3), 0, "the next owner's answer counts");
    fixture_append_all(&f);
    cr_assert_eq(host_snapshot(f.host, "r", f.now), 0);
    fixture_append_all(&f);
    cr_assert_gt(f.image.len, 0);
    cr_assert_eq(answer(&f, 3, 0, "\xc3", 0), 0);
    fixture_append_all(&f);
    fixture_said(&f);
    tell(&f, "vlast");
    open_asker(&h, journals);
    cr_assert_eq(fixture_take_over(&h, "r", 9, &f), 0);
    cr_assert_str_eq(fixture_said(&h), "shared a 4 #1.2 verb 3 limit 0 expect 0 by -4 <0 bytes> again\n"
                                       "shared z 1 #1.4 verb 0 limit 0 expect 0 by 0 <0 bytes> again\n"
                                       "shared last 2 #1.5 verb 1 limit 2000 expect 0 by 0 7 again\n");
    fixture_close(&h);
    fixture_close(&g);
    fixture_close(&f);
}

Test(room_open, the_next_owner_asks_again)
{
    comes_back("asker");
    comes_back("applied");
}

/* Whatever is changed in an image, a room comes of it that could have written it, or none. */
Test(room_open, damaged_images)
{
    struct fixture f;
    open_asker(&f, NULL);
    cr_assert_eq(fixture_start(&f, "r", "asker"), 0);
    tell(&f, "sa");
    tell(&f, "ianna");
    cr_assert_eq(host_snapshot(f.host, "r", f.now), 0);
    unsigned made = 0;
    for (size_t i = 0; i < f.image.len; i++) {
        for (int change = 1; change < 256; change += 7) {
            struct fixture g;
            struct err_detail why;
            open_asker(&g, NULL);
            f.image.data[i] ^= (uint8_t)change;
            struct host_restore r = {.id = "r", .epoch = 9, .image = f.image.data, .image_len = f.image.len};
            made += host_restore(g.host, &r, g.now, &why) == 0 && host_resume(g.host, "r", g.now) == 0;
            f.image.data[i] ^= (uint8_t)change;
            fixture_close(&g);
        }
    }
    cr_assert_gt(made, 0);
    fixture_close(&f);
}
