/* Rooms that keep a journal: nothing is said before it is durable, everything in its order, and what is read again. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "room/journal.h"
#include "room_fixture.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"

static void journals(struct host_config *c)
{
    c->journal = true;
    c->snapshots = true;
    c->hold_ms = 1000;
}

static bool forgetful; /* the puppet does something else when it is done again */

static int puppet_join(struct room *room, const char *player, const void *options, size_t len)
{
    room_broadcast(room, NULL, NULL, "\xa3new", 4);
    return len ? ROOM_E_UNAUTHORIZED : 0;
}

static void puppet_leave(struct room *room, const char *player, const char *reason)
{
    room_broadcast(room, NULL, player, "\xa4left", 5);
}

/* A number: so many bytes are said in so many messages. */
static int puppet_message(struct room *room, const char *player, const void *data, size_t len)
{
    const uint8_t *word = data;
    if (forgetful)
        return ROOM_E_CONFLICT;
    if (word[0] == 0xA1 && word[1] == 'k') {
        room_broadcast(room, NULL, NULL, "\xa5going", 6);
        return room_kick(room, player, "rude");
    }
    if (word[0] == 0xA1 && word[1] == 'c')
        room_close(room, "over");
    if (word[0] == 0xA1 && word[1] == 'm')
        room_lock(room);
    if (word[0] == 0xA1 && word[1] == 'b') {
        static uint8_t big[700005];
        struct buf b = {.data = big, .cap = sizeof(big), .max = sizeof(big), .alloc = &alloc_libc};
        static char text[700000];
        mp_write_bin(&b, text, sizeof(text));
        for (int i = 0; i < 100; i++)
            room_broadcast(room, NULL, NULL, big, b.len);
    }
    return room_reply(room, data, len);
}

static void puppet_tick(struct room *room, int64_t now_ms, int64_t dt_ms)
{
    room_broadcast(room, NULL, NULL, "\xa4tick", 5);
}

static int puppet_state(struct room *room, const char *player)
{
    return strcmp(player, "stateless") == 0 ? ROOM_E_CONFLICT : room_reply(room, "\xa1s", 2);
}

static int nil_save(struct room *room)
{
    return room_reply(room, "\xc0", 1);
}

static int nil_restore(struct room *room, const void *state, size_t len)
{
    return 0;
}

static const struct room_type puppet = {.api_version = ROOM_TYPE_API_VERSION, .name = "puppet", .max_players = 4,
                                        .durability = ROOM_DURABILITY_JOURNAL, .join = puppet_join,
                                        .leave = puppet_leave, .message = puppet_message, .tick = puppet_tick,
                                        .state = puppet_state, .save = nil_save, .restore = nil_restore};

static void open_puppet(struct fixture *f)
{
    fixture_open(f, journals);
    forgetful = false;
    cr_assert_eq(types_add(f->types, &puppet, NULL), 0);
    cr_assert_eq(types_variant(f->types, "ticker=puppet,tick_ms=100", NULL), 0);
}

static int join(struct fixture *f, const char *player, uint64_t who, bool refused)
{
    char session[80];
    snprintf(session, sizeof(session), "s-%s", player);
    struct host_join j = {.id = "r", .player = player, .who = who, .session = session, .options = "\x01",
                          .options_len = refused};
    return host_join(f->host, &j, f->now);
}

static int send(struct fixture *f, uint64_t who, int64_t n, const char *json)
{
    struct buf b;
    buf_init(&b, &alloc_libc, 1 << 20);
    fixture_pack(&b, json);
    int rc = host_message(f->host, "r", who, n, b.data, b.len, f->now);
    buf_deinit(&b);
    return rc;
}

/* A room with ann (1) and bob (2), all durable. */
static void two_in(struct fixture *f, const char *type)
{
    open_puppet(f);
    cr_assert_eq(fixture_start(f, "r", type), 0);
    cr_assert_eq(join(f, "ann", 1, false), 0);
    cr_assert_eq(join(f, "bob", 2, false), 0);
    fixture_append_all(f);
    fixture_said(f);
}

Test(room_journal, nothing_is_said_before_it_is_durable)
{
    struct fixture f;
    open_puppet(&f);
    cr_assert_eq(fixture_start(&f, "r", "puppet"), 0);
    cr_assert_str_eq(host_room_durability(host_find(f.host, "r")), "journal");
    cr_assert_eq(f.journal->number, 1, "the creation goes out at once");
    cr_assert_eq(join(&f, "ann", 1, false), 0);
    cr_assert_eq(join(&f, "bob", 2, false), 0);
    cr_assert_eq(send(&f, 1, 1, "5"), 0);
    cr_assert_eq(join(&f, "eve", 3, true), ROOM_E_UNAUTHORIZED, "a refusal needs no journal");
    cr_assert_str_eq(fixture_said(&f), "");
    fixture_append(&f);
    cr_assert_str_eq(fixture_said(&f), "", "the first batch held the creation alone");
    cr_assert_eq(f.journal->number, 2);
    cr_assert_eq(send(&f, 2, 1, "6"), 0);
    fixture_append(&f);
    cr_assert_str_eq(fixture_said(&f), "joined 1 \"s\"\nall -0 - \"new\"\njoined 2 \"s\"\nsent 1 1 ok 5\nall -0 - \"new\"\n");
    cr_assert_eq(f.journal->number, 3);
    fixture_append(&f);
    cr_assert_str_eq(fixture_said(&f), "sent 2 1 ok 6\n");
    cr_assert_eq(f.journal->number, 0);
    host_appended(f.host, "r", 1, 3, 9, f.now);
    host_appended(f.host, "r", 2, 4, 9, f.now);
    cr_assert_str_eq(fixture_said(&f), "");
    fixture_close(&f);
}

Test(room_journal, who_hears_what_is_settled_by_when_it_was_said)
{
    struct fixture f;
    const void *cursor = NULL;
    struct host_member m;
    two_in(&f, "puppet");
    const struct room *r = host_find(f.host, "r");
    cr_assert_eq(send(&f, 2, 1, "\"k\""), 0);
    cr_assert_eq(join(&f, "cid", 3, false), 0);
    cr_assert_eq(host_room_players(r), 2);
    int ann = 0, bob = 0;
    while (host_room_member(r, &cursor, &m)) {
        ann += m.who == 1;
        bob += m.who == 2;
        cr_assert_neq(m.who, 3, "nobody has told that cid is there");
    }
    cr_assert(ann == 1 && bob == 1, "bob does not know yet that he is kicked");
    cr_assert_eq(send(&f, 2, 2, "1"), ROOM_E_NOT_FOUND);
    fixture_append_all(&f);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"going\"\nsent 2 1 ok <0 bytes>\nleft 2 rude\nall -0 bob \"left\"\n"
                                       "all -0 - \"new\"\njoined 3 \"s\"\n");
    cr_assert_eq(host_leave(f.host, "r", 3, "left", f.now), 0);
    cr_assert_eq(send(&f, 1, 1, "4"), 0);
    cr_assert_eq(host_leave(f.host, "r", 1, "left", f.now), 0);
    fixture_append_all(&f);
    cr_assert_str_eq(fixture_said(&f), "all -0 cid \"left\"\n", "who left by his own word hears no more");
    fixture_close(&f);
}

Test(room_journal, a_message_sent_again_waits_for_the_first_one)
{
    struct fixture f;
    char ticket[HOST_TICKET_SIZE];
    two_in(&f, "puppet");
    cr_assert_eq(send(&f, 1, 1, "7"), 0);
    cr_assert_eq(send(&f, 1, 1, "7"), 0);
    fixture_append_all(&f);
    cr_assert_str_eq(fixture_said(&f), "sent 1 1 ok 7\n");
    cr_assert_eq(send(&f, 1, 1, "7"), 0);
    cr_assert_str_eq(fixture_said(&f), "sent 1 1 ok 7\n");
    cr_assert_eq(send(&f, 1, 2, "8"), 0);
    cr_assert_eq(host_hold(f.host, "r", 1, f.now), 0);
    cr_assert_eq(host_attach(f.host, "r", "ann", "s-ann", 5, f.now), 0);
    cr_assert_eq(send(&f, 5, 2, "8"), 0);
    cr_assert_str_eq(fixture_said(&f), "");
    fixture_append_all(&f);
    cr_assert_str_eq(fixture_said(&f), "attached 5 \"s\"\nsent 5 2 ok 8\n");
    cr_assert_eq(host_reserve(f.host, "r", "ann", f.now, ticket), 0);
    struct host_join j = {.id = "r", .player = "ann", .ticket = ticket, .who = 6, .session = "s-ann"};
    cr_assert_eq(send(&f, 2, 1, "1"), 0);
    cr_assert_eq(host_join(f.host, &j, f.now), 0);
    cr_assert_eq(send(&f, 6, 2, "8"), 0);
    fixture_append_all(&f);
    cr_assert_str_eq(fixture_said(&f), "sent 2 1 ok 1\nleft 5 replaced\njoined 6 \"s\"\nsent 6 2 ok 8\n");
    fixture_close(&f);
}

Test(room_journal, a_room_that_ends_is_there_until_that_is_durable)
{
    struct fixture f, g;
    two_in(&f, "puppet");
    cr_assert_eq(send(&f, 1, 1, "\"c\""), 0);
    const struct room *r = host_find(f.host, "r");
    cr_assert(r && !host_room_running(r));
    cr_assert_eq(send(&f, 1, 2, "1"), ROOM_E_NOT_FOUND);
    cr_assert_eq(join(&f, "cid", 3, false), ROOM_E_NOT_FOUND);
    cr_assert_eq(fixture_start(&f, "r", "puppet"), ROOM_E_EXISTS);
    cr_assert_eq(host_stop(f.host, "r", "x", f.now), ROOM_E_NOT_FOUND);
    cr_assert_str_eq(fixture_said(&f), "");
    fixture_append_all(&f);
    cr_assert_str_eq(fixture_said(&f), "sent 1 1 ok \"c\"\nleft 1 over\nleft 2 over\nended r over\n");
    cr_assert_null(host_find(f.host, "r"));
    open_puppet(&g);
    cr_assert_eq(fixture_take_over(&g, "r", 2, &f), ROOM_E_CANCELLED, "it had ended");
    cr_assert_null(host_find(g.host, "r"));
    fixture_close(&f);
    fixture_close(&g);
}

/* The last batch, which held the end or the kick, never came to be durable: what led to it did. */
static void lose_last_record(struct fixture *f)
{
    struct fixture_journal *j = f->journal;
    struct fixture_batch *b = &j->batches[j->count - 1];
    struct mp_read in;
    struct wire_raw raw;
    mp_read_init(&in, j->bytes.data + b->at + JOURNAL_HEAD, b->len - JOURNAL_HEAD);
    while (mp_skip(&in, WIRE_DEPTH_MAX, &raw, NULL) == 0 && in.at != in.end)
        ;
    j->bytes.data[b->at + JOURNAL_HEAD - 1]--;
    b->len -= raw.len;
}

Test(room_journal, what_was_asked_for_and_not_recorded_is_done_by_the_next_owner)
{
    static const char *const words[] = {"\"c\"", "\"k\""};
    static const char *const wanted[] = {"left 0 over\nleft 0 over\nended r over\n", "left 0 rude\nall -0 ann \"left\"\n"};
    for (int i = 0; i < 2; i++) {
        struct fixture f, g;
        two_in(&f, "puppet");
        cr_assert_eq(send(&f, 1, 1, words[i]), 0);
        fixture_append_all(&f);
        lose_last_record(&f);
        open_puppet(&g);
        cr_assert_eq(fixture_take_over(&g, "r", 2, &f), 0);
        cr_assert_eq(g.journal->epoch, 2);
        fixture_append_all(&g);
        cr_assert_str_eq(fixture_said(&g), wanted[i]);
        fixture_close(&f);
        fixture_close(&g);
    }
}

Test(room_journal, what_is_uncommitted_is_bounded)
{
    struct fixture f;
    struct host_join again = {.id = "r", .player = "eve", .who = 9};
    int rc = 0, taken = 0;
    two_in(&f, "ticker");
    for (int64_t n = 1; rc == 0; n++, taken += rc == 0)
        rc = send(&f, 1, n, "1");
    cr_assert_eq(rc, ROOM_E_RATE_LIMITED);
    cr_assert_eq(taken, JOURNAL_COMMANDS);
    cr_assert_eq(host_join(f.host, &again, f.now), ROOM_E_RATE_LIMITED);
    cr_assert_eq(host_attach(f.host, "r", "ann", "s-ann", 5, f.now), ROOM_E_RATE_LIMITED);
    cr_assert_eq(send(&f, 1, 1, "1"), 0, "known");
    f.now = mono_add_ms(f.now, 100);
    host_tick(f.host, f.now);
    fixture_append(&f);
    cr_assert_eq(send(&f, 1, taken + 1, "1"), 0);
    fixture_append_all(&f);
    cr_assert_null(strstr(fixture_said(&f), "tick"), "ticks are left out");
    f.now = mono_add_ms(f.now, 100);
    host_tick(f.host, f.now);
    fixture_append_all(&f);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"tick\"\n");
    cr_assert_eq(send(&f, 2, 1, "\"b\""), 0, "70 MB in one go");
    fixture_append_all(&f);
    cr_assert(strstr(fixture_said(&f), "sent 2 1 no_memory <0 bytes>\nleft 1 room_memory\nleft 2 room_memory\nended r room_memory\n"));
    fixture_close(&f);
}

Test(room_journal, batches_are_cut)
{
    static char text[100000], json[100010];
    struct fixture f, g;
    two_in(&f, "puppet");
    memset(text, 'x', sizeof(text) - 1);
    snprintf(json, sizeof(json), "\"%s\"", text);
    for (int64_t n = 1; n <= 6; n++)
        cr_assert_eq(send(&f, 1, n, json), 0);
    size_t before = f.journal->count;
    fixture_append_all(&f);
    cr_assert_eq(f.journal->count - before, 4, "one went out by itself, the others by two");
    for (size_t i = before; i < f.journal->count; i++)
        cr_assert_leq(f.journal->batches[i].len, JOURNAL_BATCH + JOURNAL_HEAD);
    open_puppet(&g);
    cr_assert_eq(fixture_take_over(&g, "r", 2, &f), 0);
    fixture_close(&f);
    fixture_close(&g);
}

Test(room_journal, an_image_holds_what_its_position_says)
{
    struct fixture f, g;
    two_in(&f, "puppet");
    uint64_t two = f.journal->sequence;
    cr_assert_eq(host_snapshot(f.host, "r", f.now), 0);
    cr_assert(f.images == 1 && f.version == 1 && f.position == two, "nothing is pending");
    cr_assert_eq(send(&f, 1, 1, "1"), 0);
    cr_assert_eq(send(&f, 1, 2, "2"), 0);
    cr_assert(host_room_unsaved(host_find(f.host, "r")));
    cr_assert_eq(host_snapshot(f.host, "r", f.now), 0);
    cr_assert(!host_room_unsaved(host_find(f.host, "r")));
    cr_assert(host_room_waits(host_find(f.host, "r")), "the image was asked for, and is not there yet");
    cr_assert_eq(send(&f, 1, 3, "3"), 0);
    cr_assert_eq(host_snapshot(f.host, "r", f.now), 0);
    fixture_append(&f);
    cr_assert_eq(f.images, 1, "2 is not durable");
    fixture_append(&f);
    cr_assert(f.images == 2 && f.version == 2 && f.position == two + 2);
    cr_assert_eq(f.journal->number, 5, "3 went into a batch of its own");
    fixture_append(&f);
    cr_assert(f.images == 3 && f.version == 3 && f.position == two + 3, "the one that was asked for again");
    cr_assert(!host_room_waits(host_find(f.host, "r")));
    cr_assert_eq(send(&f, 1, 4, "4"), 0);
    fixture_append_all(&f);
    open_puppet(&g);
    cr_assert_eq(fixture_take_over(&g, "r", 7, &f), 0);
    cr_assert_eq(host_attach(g.host, "r", "ann", "s-ann", 9, g.now), 0);
    fixture_said(&g);
    cr_assert_eq(send(&g, 9, 4, "4"), 0);
    cr_assert_str_eq(fixture_said(&g), "sent 9 4 ok 4\n");
    fixture_close(&f);
    fixture_close(&g);
}

static struct buf mark_of(uint64_t epoch)
{
    struct buf b;
    buf_init(&b, &alloc_libc, 64);
    cr_assert_eq(host_mark(&b, epoch), 0);
    return b;
}

static void put_batch(struct fixture *f, const void *data, size_t len)
{
    struct fixture_journal *j = f->journal;
    j->batches[j->count++] = (struct fixture_batch){++j->sequence, j->bytes.len, len};
    cr_assert(buf_write(&j->bytes, data, len));
}

Test(room_journal, what_a_superseded_owner_wrote_is_ignored_and_a_gap_is_seen)
{
    struct fixture f, g, h;
    two_in(&f, "puppet");
    struct buf mark = mark_of(5);
    put_batch(&f, mark.data, mark.len);
    cr_assert_eq(send(&f, 1, 1, "\"c\""), 0);
    put_batch(&f, f.journal->flight.data, f.journal->flight.len);
    open_puppet(&g);
    cr_assert_eq(fixture_take_over(&g, "r", 6, &f), 0, "its end was written too late");
    cr_assert_eq(host_room_players(host_find(g.host, "r")), 2);
    buf_deinit(&mark);
    open_puppet(&h);
    cr_assert_eq(fixture_take_over(&h, "r", 5, &f), 0, "its own mark, of an earlier try");
    host_discard(h.host, "r");
    h.journal->number = 0;
    cr_assert_eq(fixture_take_over(&h, "r", 4, &f), ROOM_E_FENCED);
    host_discard(h.host, "r");
    memmove(f.journal->batches, f.journal->batches + 1, sizeof(f.journal->batches[0]) * 3);
    f.journal->count = 1;
    cr_assert_eq(fixture_take_over(&h, "r", 6, &f), ROOM_E_BAD_FRAME, "it does not begin with the creation");
    host_discard(h.host, "r");
    fixture_close(&f);
    fixture_close(&g);
    fixture_close(&h);
}

Test(room_journal, a_missing_batch_and_a_type_that_does_something_else_are_errors)
{
    struct fixture f, g;
    two_in(&f, "puppet");
    for (int64_t n = 1; n <= 3; n++) {
        cr_assert_eq(send(&f, 1, n, "1"), 0);
        fixture_append_all(&f);
    }
    open_puppet(&g);
    forgetful = true;
    cr_assert_eq(fixture_take_over(&g, "r", 2, &f), ROOM_E_INTERNAL);
    forgetful = false;
    cr_assert_eq(host_discard(g.host, "r"), 0);
    f.journal->count--;
    f.journal->batches[f.journal->count - 1] = f.journal->batches[f.journal->count];
    cr_assert_eq(fixture_take_over(&g, "r", 2, &f), ROOM_E_BAD_FRAME);
    cr_assert_eq(host_discard(g.host, "r"), 0);
    fixture_close(&f);
    fixture_close(&g);
}

static const char *recorded;
static int record_code;

static int clerk_message(struct room *room, const char *player, const void *data, size_t len)
{
    static uint8_t big[ROOM_DATA_MAX - 100];
    struct buf b = {.data = big, .cap = sizeof(big), .max = sizeof(big), .alloc = &alloc_libc};
    static char text[ROOM_DATA_MAX - 200];
    mp_write_bin(&b, text, sizeof(text));
    const uint8_t *word = data;
    if (*word == 1)
        record_code = room_record(room, recorded, strlen(recorded));
    if (*word == 2)
        record_code = room_record(room, big, b.len) ? 1 : room_record(room, big, b.len);
    if (*word == 3)
        record_code = room_record(room, big, b.len) ? 1 : room_reply(room, big, b.len);
    return 0;
}

static void clerk_tick(struct room *room, int64_t now_ms, int64_t dt_ms)
{
}

static int clerk_state(struct room *room, const char *player)
{
    record_code = room_record(room, "\x01", 1);
    return 0;
}

static int clerk_apply(struct room *room, const void *data, size_t len)
{
    return 0;
}

static const struct room_type clerk = {.api_version = ROOM_TYPE_API_VERSION, .name = "clerk", .max_players = 4,
                                       .durability = ROOM_DURABILITY_JOURNAL, .tick_ms = 100, .message = clerk_message,
                                       .tick = clerk_tick,
                                       .state = clerk_state, .save = nil_save, .restore = nil_restore, .apply = clerk_apply};
static const struct room_type illiterate = {.api_version = ROOM_TYPE_API_VERSION, .name = "illiterate", .max_players = 4,
                                            .message = clerk_message};

static int record_in(const char *type, bool journal, const char *what, const char *value)
{
    struct fixture f;
    fixture_open(&f, journal ? journals : NULL);
    cr_assert_eq(types_add(f.types, &clerk, NULL), 0);
    cr_assert_eq(types_add(f.types, &illiterate, NULL), 0);
    recorded = value;
    cr_assert_eq(fixture_start(&f, "r", type), 0);
    cr_assert_eq(join(&f, "ann", 1, false), 0);
    if (what)
        cr_assert_eq(send(&f, 1, 1, what), 0);
    fixture_append_all(&f);
    fixture_close(&f);
    return record_code;
}

Test(room_journal, what_may_be_recorded_and_where)
{
    cr_assert_eq(record_in("clerk", true, "1", "\x05"), 0);
    cr_assert_eq(record_in("clerk", false, "1", "\x05"), 0, "no journal, no harm");
    cr_assert_eq(record_in("clerk", true, "1", "\x05\x05"), ROOM_E_BAD_FRAME);
    cr_assert_eq(record_in("clerk", false, "1", "\xc1"), ROOM_E_BAD_FRAME);
    cr_assert_eq(record_in("clerk", true, "2", ""), ROOM_E_TOO_BIG);
    cr_assert_eq(record_in("clerk", true, "3", ""), ROOM_E_TOO_BIG);
    cr_assert_eq(record_in("clerk", true, NULL, ""), ROOM_E_INVALID, "state() changes nothing");
    cr_assert_eq(record_in("illiterate", true, "1", "\x05"), ROOM_E_UNSUPPORTED);
}

Test(room_journal, a_tick_that_does_nothing_is_not_recorded_and_holds_nothing_back)
{
    struct fixture f;
    char ticket[HOST_TICKET_SIZE];
    fixture_open(&f, journals);
    cr_assert_eq(types_add(f.types, &clerk, NULL), 0);
    cr_assert_eq(fixture_start(&f, "r", "clerk"), 0);
    fixture_append_all(&f);
    cr_assert_eq(host_reserve(f.host, "r", "ann", f.now, ticket), 0);
    unsigned before = f.changes;
    f.now = mono_add_ms(f.now, 2000);
    host_tick(f.host, f.now);
    cr_assert_eq(f.journal->number, 0);
    cr_assert_eq(f.changes, before + 1, "the ticket has expired, and the listing must know");
    fixture_close(&f);
}

/* A whole life once with the N-th allocation failing, for every N: nobody stays behind, nothing leaks. */
Test(room_journal, each_allocation_may_fail)
{
    bool failed = true;
    for (long n = 0; failed; n++) {
        struct fixture f;
        open_puppet(&f);
        f.memory.fail_after = n;
        bool started = fixture_start(&f, "r", "ticker") == 0;
        bool ann = join(&f, "ann", 1, false) == 0, bob = join(&f, "bob", 2, false) == 0;
        send(&f, 1, 1, "5");
        if (f.journal->number)
            fixture_append(&f);
        (void)host_snapshot(f.host, "r", f.now);
        send(&f, 1, 2, "6");
        send(&f, 2, 1, "\"k\"");
        f.now = mono_add_ms(f.now, 100);
        host_tick(f.host, f.now);
        (void)host_snapshot(f.host, "r", f.now);
        host_stop(f.host, "r", "x", f.now);
        failed = f.memory.fail_after == 0;
        f.memory.fail_after = -1;
        fixture_append_all(&f);
        const char *said = fixture_said(&f);
        cr_assert_null(host_find(f.host, "r"), "%ld", n);
        cr_assert_eq(started, strstr(said, "ended r ") != NULL, "%ld: %s", n, said);
        cr_assert_eq(ann, strstr(said, "left 1 ") != NULL, "%ld: %s", n, said);
        cr_assert_eq(bob, strstr(said, "left 2 ") != NULL, "%ld: %s", n, said);
        fixture_close(&f);
    }
}

/* Every byte of a journal changed, every length: an error or a room, never a crash. */
Test(room_journal, damaged_batches, .timeout = 120)
{
    struct fixture f, g;
    two_in(&f, "ticker");
    cr_assert_eq(send(&f, 1, 1, "1"), 0);
    cr_assert_eq(send(&f, 2, 1, "\"k\""), 0);
    f.now = mono_add_ms(f.now, 100);
    host_tick(f.host, f.now);
    cr_assert_eq(host_lock(f.host, "r", true, f.now), 0);
    fixture_append_all(&f);
    open_puppet(&g);
    struct fixture_journal *j = f.journal;
    for (size_t i = 0; i < j->count; i++)
        for (size_t at = 0; at < j->batches[i].len; at++) {
            uint8_t *byte = j->bytes.data + j->batches[i].at + at, was = *byte;
            size_t len = j->batches[i].len;
            for (unsigned flip = 0; flip < 256; flip++) {
                *byte = (uint8_t)(was ^ flip);
                j->batches[i].len = flip ? len : at;
                g.journal->number = 0;
                (void)fixture_take_over(&g, "r", 2, &f);
                host_discard(g.host, "r");
            }
            *byte = was;
            j->batches[i].len = len;
        }
    cr_assert_eq(host_player_count(g.host), 0);
    fixture_close(&f);
    fixture_close(&g);
}
