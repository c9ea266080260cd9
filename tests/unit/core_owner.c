/* Rooms owned here and rooms of the dead: winning, listing, losing, removing. */
#include <stdio.h>

#include "core_world.h"

TestSuite(core_owner, .timeout = 30);

/* The claim of a name looks first: nobody has it, and this is the revision of what was deleted there. */
static void name_is_free(struct world *w, uint64_t marker)
{
    world_kv(w, world_take(w, CORE_FX_GET_ROOM)->token, CORE_KV_NOT_FOUND, marker, NULL, NULL);
}

Test(core_owner, a_name_used_before_gets_an_epoch_above_all_earlier_ones)
{
    struct world w;
    world_begin(&w);
    world_create(&w, 5, "hall", false);
    name_is_free(&w, 40);
    struct core_fx *put = world_take(&w, CORE_FX_PUT_ROOM);
    cr_assert_eq(put->expected, 40);
    cr_assert_eq(put->room_entry.epoch, 42);
    world_end(&w);
}

Test(core_owner, a_forgotten_deletion_does_not_bring_an_old_epoch_back)
{
    struct world w;
    world_begin(&w);
    struct room_info gone = {.id = world_id("hall")};
    world_step(&w, (struct core_event){.kind = CORE_EV_ROOM_ENTRY, .room = &gone, .revision = 40});
    world_create(&w, 5, "hall", false);
    name_is_free(&w, 0);
    struct core_fx *put = world_take(&w, CORE_FX_PUT_ROOM);
    cr_assert_eq(put->expected, 0);
    cr_assert_eq(put->room_entry.epoch, 42);
    world_end(&w);
}

Test(core_owner, a_named_room_starts_only_after_it_was_won)
{
    struct world w;
    world_begin(&w);
    world_create(&w, 5, "hall", false);
    name_is_free(&w, 0);
    cr_assert_eq(world_count(&w, CORE_FX_ROOM_START), 0);
    struct core_fx *put = world_take(&w, CORE_FX_PUT_ROOM);
    cr_assert_eq(put->expected, 0);
    world_kv(&w, put->token, CORE_KV_OK, ++w.revision, NULL, NULL);
    world_take(&w, CORE_FX_ROOM_START);
    world_started(&w, "hall", ROOM_E_OK);
    world_take(&w, CORE_FX_CREATED);
    cr_assert_eq(world_take(&w, CORE_FX_CALL_REPLY)->req, 5);
    world_end(&w);
}

static void create_of(struct world *w, const char *room, const char *type)
{
    struct core_call call = {.kind = CORE_CALL_CREATE, .room = world_id(room), .type = world_id(type), .generated = true};
    world_step(w, (struct core_event){.kind = CORE_EV_CALL, .req = 5, .call = &call});
}

/* Nobody could take over what nobody knows of. */
Test(core_owner, a_room_with_a_journal_is_listed_before_it_runs)
{
    struct world w;
    world_begin(&w);
    create_of(&w, "r", "safe");
    cr_assert_eq(world_count(&w, CORE_FX_ROOM_START), 0);
    struct core_fx *put = world_take(&w, CORE_FX_PUT_ROOM);
    cr_assert_eq(put->expected, 0);
    cr_assert_eq(put->room_entry.durability, DURABILITY_JOURNAL);
    world_kv(&w, put->token, CORE_KV_OK, ++w.revision, NULL, NULL);
    world_take(&w, CORE_FX_ROOM_START);
    create_of(&w, "s", "snap");
    cr_assert_eq(world_take(&w, CORE_FX_ROOM_START)->room_entry.durability, DURABILITY_SNAPSHOT);
    world_end(&w);
}

/* The claim of "hall" finds the entry; returns the answer. */
static struct core_answer claim_finds(struct world *w, const struct room_info *info)
{
    world_create(w, 5, "hall", false);
    world_kv(w, world_take(w, CORE_FX_GET_ROOM)->token, CORE_KV_OK, 9, NULL, info);
    cr_assert_eq(world_count(w, CORE_FX_ROOM_START), 0);
    struct core_fx *reply = world_find(w, CORE_FX_CALL_REPLY);
    return reply ? reply->answer : (struct core_answer){.code = ROOM_E_OK};
}

Test(core_owner, a_dead_owners_name_is_free_unless_its_room_is_kept)
{
    for (uint8_t durability = 0; durability <= DURABILITY_JOURNAL; durability++) {
        struct world w;
        world_begin(&w);
        struct server_info b = world_server("b", "01B");
        b.status = SERVER_DOWN;
        world_server_entry(&w, b);
        struct room_info r = world_room("hall", "b", "01B");
        r.durability = durability;
        struct core_answer a = claim_finds(&w, &r);
        world_run(&w, 50);
        cr_assert_eq(a.code, durability ? ROOM_E_UNAVAILABLE : ROOM_E_OK);
        cr_assert_eq(a.epoch, durability ? 1 : 0, "so that whoever asked waits for it");
        struct core_fx *put = world_find(&w, CORE_FX_PUT_ROOM);
        cr_assert_eq(put != NULL, durability == 0);
        if (put)
            cr_assert(put->room_entry.epoch == 2 && put->expected == 9);
        world_end(&w);
    }
}

Test(core_owner, a_lost_claim_names_the_owner)
{
    struct world w;
    world_begin(&w);
    world_create(&w, 5, "hall", false);
    name_is_free(&w, 0);
    world_kv(&w, world_take(&w, CORE_FX_PUT_ROOM)->token, CORE_KV_CONFLICT, 0, NULL, NULL);
    world_run(&w, 50);
    struct room_info other = world_room("hall", "b", "01B");
    world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, CORE_KV_OK, 9, NULL, &other);
    struct core_fx *reply = world_take(&w, CORE_FX_CALL_REPLY);
    cr_assert_eq(reply->answer.code, ROOM_E_EXISTS);
    cr_assert_str_eq(reply->answer.server.s, "b");
    cr_assert_eq(world_count(&w, CORE_FX_ROOM_START), 0);
    world_end(&w);
}

static void two_more_ask(struct world *w)
{
    world_create(w, 6, "hall", false);
    world_create(w, 7, "hall", false);
    cr_assert_eq(world_count(w, CORE_FX_CALL_REPLY), 0, "nothing is said before the claim is settled");
}

/* Request 5 made the claim; 6 and 7 came meanwhile, and are answered in that order. */
static void told(struct world *w, int first, int others, const char *owner)
{
    for (uint64_t req = 5; req <= 7; req++) {
        struct core_fx *fx = world_take(w, CORE_FX_CALL_REPLY);
        cr_assert_eq(fx->req, req);
        cr_assert_eq(fx->answer.code, req == 5 ? first : others);
        cr_assert_str_eq(fx->answer.server.s, owner);
        cr_assert_str_eq(fx->answer.room.s, "hall");
    }
    cr_assert_eq(world_count(w, CORE_FX_CALL_REPLY), 0);
}

Test(core_owner, creates_of_a_name_under_claim_wait_until_it_is_won)
{
    struct world w;
    world_begin(&w);
    world_create(&w, 5, "hall", false);
    two_more_ask(&w);
    name_is_free(&w, 0);
    world_kv(&w, world_take(&w, CORE_FX_PUT_ROOM)->token, CORE_KV_OK, ++w.revision, NULL, NULL);
    cr_assert_eq(world_count(&w, CORE_FX_CALL_REPLY), 0, "won, but not running yet");
    world_started(&w, "hall", ROOM_E_OK);
    told(&w, ROOM_E_OK, ROOM_E_EXISTS, "a");
    world_end(&w);
}

Test(core_owner, creates_of_a_name_under_claim_wait_until_it_is_lost)
{
    struct world w;
    world_begin(&w);
    world_create(&w, 5, "hall", false);
    two_more_ask(&w);
    name_is_free(&w, 0);
    world_kv(&w, world_take(&w, CORE_FX_PUT_ROOM)->token, CORE_KV_CONFLICT, 0, NULL, NULL);
    struct room_info other = world_room("hall", "b", "01B");
    world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, CORE_KV_OK, 9, NULL, &other);
    told(&w, ROOM_E_EXISTS, ROOM_E_EXISTS, "b");
    world_end(&w);
}

Test(core_owner, creates_of_a_name_under_claim_hear_why_it_failed)
{
    for (int late = 0; late < 2; late++) {
        struct world w;
        world_begin(&w);
        world_create(&w, 5, "hall", false);
        two_more_ask(&w);
        name_is_free(&w, 0);
        struct core_fx put = *world_take(&w, CORE_FX_PUT_ROOM);
        world_kv(&w, put.token, late ? CORE_KV_UNKNOWN : CORE_KV_OK, ++w.revision, NULL, NULL);
        for (int t = 0; late && t < w.config.create_ms; t += CORE_TICK_MS) {
            world_run(&w, CORE_TICK_MS);
            struct core_fx *get = world_find(&w, CORE_FX_GET_ROOM);
            if (get)
                world_kv(&w, get->token, CORE_KV_UNKNOWN, 0, NULL, NULL);
        }
        if (!late)
            world_started(&w, "hall", ROOM_E_INVALID);
        told(&w, late ? ROOM_E_TIMEOUT : ROOM_E_INVALID, late ? ROOM_E_TIMEOUT : ROOM_E_INVALID, "a");
        world_end(&w);
    }
}

Test(core_owner, a_create_while_the_name_is_given_up_waits_until_it_is_free)
{
    struct world w;
    world_begin(&w);
    world_running(&w, "hall");
    struct room_info r = world_room("hall", "a", "");
    world_step(&w, (struct core_event){.kind = CORE_EV_ROOM_ENDED, .room = &r, .reason = "empty"});
    world_create(&w, 5, "hall", false);
    cr_assert_eq(world_count(&w, CORE_FX_CALL_REPLY), 0);
    world_run(&w, 50);
    world_kv(&w, world_take(&w, CORE_FX_DEL_ROOM)->token, CORE_KV_OK, ++w.revision, NULL, NULL);
    cr_assert_eq(world_take(&w, CORE_FX_CALL_REPLY)->answer.code, ROOM_E_UNAVAILABLE, "asked again, it can be made");
    world_end(&w);
}

Test(core_owner, a_create_is_answered_in_time_without_nats_too)
{
    struct world w;
    world_begin(&w);
    world_create(&w, 5, "hall", false);
    struct core_fx get = *world_take(&w, CORE_FX_GET_ROOM);
    world_step(&w, (struct core_event){.kind = CORE_EV_BUS_DOWN});
    world_kv(&w, get.token, CORE_KV_UNKNOWN, 0, NULL, NULL);
    world_run(&w, 9000);
    struct core_fx *reply = world_take(&w, CORE_FX_CALL_REPLY);
    cr_assert_eq(reply->req, 5);
    cr_assert_eq(reply->answer.code, ROOM_E_TIMEOUT);
    world_end(&w);
}

Test(core_owner, creates_that_nobody_answered_are_freed)
{
    struct world w;
    world_begin(&w);
    world_create(&w, 5, "hall", false);
    two_more_ask(&w);
    world_end(&w);
}

Test(core_owner, an_unknown_claim_is_read_back)
{
    for (int found = 0; found < 2; found++) {
        struct world w;
        world_begin(&w);
        world_create(&w, 5, "hall", false);
        name_is_free(&w, 0);
        struct core_fx put = *world_take(&w, CORE_FX_PUT_ROOM);
        world_kv(&w, put.token, CORE_KV_UNKNOWN, 0, NULL, NULL);
        world_run(&w, 300);
        world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, found ? CORE_KV_OK : CORE_KV_NOT_FOUND, 9, NULL,
                 found ? &put.room_entry : NULL);
        world_run(&w, 50);
        world_take(&w, found ? CORE_FX_ROOM_START : CORE_FX_PUT_ROOM);
        cr_assert_eq(world_count(&w, CORE_FX_ROOM_START), 0);
        world_end(&w);
    }
}

Test(core_owner, a_claim_applied_late_is_written_again_at_the_epoch_chosen_since)
{
    struct world w;
    world_begin(&w);
    world_create(&w, 5, "hall", false);
    name_is_free(&w, 0);
    struct core_fx late = *world_take(&w, CORE_FX_PUT_ROOM);
    world_kv(&w, late.token, CORE_KV_UNKNOWN, 0, NULL, NULL);
    world_run(&w, 300);
    name_is_free(&w, 40);
    struct core_fx higher = *world_take(&w, CORE_FX_PUT_ROOM);
    cr_assert(late.room_entry.epoch < 42 && higher.room_entry.epoch == 42);
    world_kv(&w, higher.token, CORE_KV_CONFLICT, 0, NULL, NULL);
    world_run(&w, 50);
    world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, CORE_KV_OK, 41, NULL, &late.room_entry);
    world_run(&w, 50);
    cr_assert_eq(world_count(&w, CORE_FX_ROOM_START), 0, "its listing and its journal would bear two epochs");
    struct core_fx *put = world_take(&w, CORE_FX_PUT_ROOM);
    cr_assert(put->expected == 41 && put->room_entry.epoch == 42);
    world_kv(&w, put->token, CORE_KV_OK, 42, NULL, NULL);
    cr_assert_eq(world_take(&w, CORE_FX_ROOM_START)->room_entry.epoch, 42);
    world_end(&w);
}

Test(core_owner, changes_are_written_at_most_every_listing_ms)
{
    struct world w;
    world_begin(&w);
    world_running(&w, "r");
    size_t writes = 0;
    struct room_info info = world_room("r", "a", "");
    for (int i = 0; i < 20; i++) {
        info.players = (uint32_t)i + 1;
        world_step(&w, (struct core_event){.kind = CORE_EV_ROOM_CHANGED, .room = &info});
        world_run(&w, 50);
        struct core_fx *put = world_find(&w, CORE_FX_PUT_ROOM);
        writes += put != NULL;
        if (put)
            world_kv(&w, put->token, CORE_KV_OK, ++w.revision, NULL, NULL);
    }
    cr_assert(writes >= 6 && writes <= 11, "%zu writes in a second", writes);
    world_end(&w);
}

Test(core_owner, a_higher_epoch_drops_the_room_and_a_removed_listing_comes_back)
{
    struct world w;
    world_begin(&w);
    world_running(&w, "r");
    struct room_info gone = {.id = world_id("r")};
    world_room_entry(&w, gone);
    world_run(&w, 150);
    world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, CORE_KV_NOT_FOUND, 0, NULL, NULL);
    world_run(&w, 150);
    world_kv(&w, world_take(&w, CORE_FX_PUT_ROOM)->token, CORE_KV_OK, ++w.revision, NULL, NULL);
    struct room_info other = world_room("r", "a", core_self(w.c)->boot);
    other.epoch = 2;
    world_room_entry(&w, other);
    cr_assert_str_eq(world_take(&w, CORE_FX_ROOM_DROP)->reason, "superseded");
    cr_assert_not_null(view_room(core_view(w.c), "r"));
    world_end(&w);
}

/* Its end waits for a journal that the next room of its name writes. */
Test(core_owner, a_room_refused_by_its_journal_and_forgotten_here_is_dropped)
{
    struct world w;
    world_begin(&w);
    struct room_info room = {.id = world_id("hall")};
    world_step(&w, (struct core_event){.kind = CORE_EV_DOUBT, .room = &room});
    cr_assert_str_eq(world_take(&w, CORE_FX_ROOM_DROP)->room.s, "hall");
    cr_assert_eq(world_count(&w, CORE_FX_GET_ROOM), 0);
    world_end(&w);
}

Test(core_owner, closing_deletes_and_then_says_so)
{
    struct world w;
    world_begin(&w);
    world_running(&w, "r");
    struct room_info r = world_room("r", "a", "");
    world_step(&w, (struct core_event){.kind = CORE_EV_ROOM_ENDED, .room = &r, .reason = "empty"});
    world_run(&w, 50);
    struct core_fx *del = world_take(&w, CORE_FX_DEL_ROOM);
    cr_assert_eq(world_count(&w, CORE_FX_DISPOSED), 0);
    world_kv(&w, del->token, CORE_KV_OK, ++w.revision, NULL, NULL);
    cr_assert_str_eq(world_take(&w, CORE_FX_DISPOSED)->reason, "empty");
    cr_assert_null(view_room(core_view(w.c), "r"));
    world_end(&w);
}

Test(core_owner, capacity_is_hard)
{
    struct world w;
    world_init(&w);
    w.config.self.capacity = 1;
    world_start(&w);
    world_join(&w);
    world_running(&w, "r1");
    world_create(&w, 2, "r2", true);
    cr_assert_eq(world_take(&w, CORE_FX_CALL_REPLY)->answer.code, ROOM_E_FULL);
    world_create(&w, 3, "", true);
    cr_assert_eq(world_take(&w, CORE_FX_CALL_REPLY)->answer.code, ROOM_E_INVALID);
    world_end(&w);
}

Test(core_owner, no_memory_for_two_writes_ends_the_tick)
{
    struct world w;
    world_begin(&w);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof(name), "r%d", i);
        world_create(&w, 1, name, true);
        world_started(&w, name, ROOM_E_OK);
    }
    w.memory.fail_after = 0;
    world_run(&w, 1000); /* 20 effects do not fit into the 16 there are */
    w.memory.fail_after = -1;
    world_run(&w, 1000);
    world_end(&w);
}

Test(core_owner, orphans_are_deleted_at_the_revision_that_was_judged)
{
    struct world w;
    world_begin(&w);
    struct server_info b = world_server("b", "01B");
    world_server_entry(&w, b);
    world_room_entry(&w, world_room("r", "b", "01B"));
    uint64_t judged = w.revision;
    world_room_entry(&w, world_room("newer", "b", "01C"));
    b.status = SERVER_DOWN;
    world_server_entry(&w, b);
    world_run(&w, 2100);
    struct core_fx del = *world_take(&w, CORE_FX_DEL_ROOM);
    cr_assert_str_eq(del.room.s, "r");
    cr_assert_eq(del.expected, judged);
    cr_assert_eq(world_count(&w, CORE_FX_DEL_ROOM), 0, "a newer boot is no orphan");
    world_room_entry(&w, world_room("r", "a", core_self(w.c)->boot)); /* claimed anew, and seen before the answer */
    world_kv(&w, del.token, CORE_KV_OK, judged + 1, NULL, NULL);
    world_take(&w, CORE_FX_DISPOSED);
    cr_assert_not_null(view_room(core_view(w.c), "r"));
    world_end(&w);
}

Test(core_owner, orphans_of_a_long_listing_are_found_a_part_at_a_time)
{
    enum { ROOMS = 1500 };
    struct world w;
    world_begin(&w);
    struct server_info b = world_server("b", "01B");
    world_server_entry(&w, b);
    for (int i = 0; i < ROOMS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "r%d", i);
        world_room_entry(&w, world_room(name, "b", "01B"));
    }
    b.status = SERVER_DOWN;
    world_server_entry(&w, b);
    world_clear(&w);
    size_t most = 0, found = 0;
    for (int t = 0; t < 5000 && found < ROOMS; t += CORE_TICK_MS) {
        world_run(&w, CORE_TICK_MS);
        size_t now = world_count(&w, CORE_FX_ROOM_GONE);
        most = now > most ? now : most;
        found += now;
        world_clear(&w);
    }
    cr_assert_eq(found, ROOMS);
    cr_assert_lt(most, ROOMS);
    world_end(&w);
}

Test(core_owner, rooms_made_at_once_are_listed_a_part_at_a_time)
{
    enum { ROOMS = 1200 };
    struct world w;
    world_init(&w);
    w.config.self.capacity = 2 * ROOMS;
    world_start(&w);
    world_join(&w);
    for (int i = 0; i < ROOMS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "r%d", i);
        world_create(&w, 1, name, true);
        world_started(&w, name, ROOM_E_OK);
        world_clear(&w);
    }
    for (int i = 0; i < 10; i++) {
        size_t before = world_count(&w, CORE_FX_PUT_ROOM);
        world_step(&w, (struct core_event){.kind = CORE_EV_TICK});
        cr_assert_leq(world_count(&w, CORE_FX_PUT_ROOM) - before, ROOMS / 4, "in one step");
    }
    size_t under_way = world_count(&w, CORE_FX_PUT_ROOM);
    cr_assert(under_way > 0 && under_way < ROOMS / 2, "%zu writes under way", under_way);
    cr_assert_not(core_has_more(w.c));
    world_create(&w, 2, "hall", false); /* somebody waits for this one */
    world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, CORE_KV_NOT_FOUND, 0, NULL, NULL);
    for (size_t listed = 0; listed < ROOMS + 1; listed++) {
        world_kv(&w, world_take(&w, CORE_FX_PUT_ROOM)->token, CORE_KV_OK, ++w.revision, NULL, NULL);
        if (core_has_more(w.c))
            world_step(&w, (struct core_event){.kind = CORE_EV_TICK});
    }
    world_take(&w, CORE_FX_ROOM_START);
    world_end(&w);
}
