/* Rooms that move from one node to another: the way there, each way back, and who dies on it. */
#include <stdio.h>

#include "core_cluster.h"

TestSuite(core_move, .timeout = 60);

enum { MOVE_MS = 10000 }; /* the default of migration_timeout_ms */

static void begin(struct cluster *k, int nodes, const char *type)
{
    cluster_init(k);
    for (int i = 0; i < nodes; i++)
        cluster_node(k, 100);
    cluster_room(k, 0, "r", type);
    cluster_run(k, 500);
    cr_assert(cluster_runs(k, 0, "r"));
    k->answers = 0;
}

static void was_answered(struct cluster *k, int code, const char *server, uint64_t epoch)
{
    cr_assert_eq(k->answers, 1, "%u answers", k->answers);
    cr_assert_eq(k->answer.code, code, "%s", room_error_name(k->answer.code));
    cr_assert_str_eq(k->answer.server.s, server);
    cr_assert_eq(k->answer.epoch, epoch);
}

/* As if nobody had ever wanted to move it. */
static void stayed(struct cluster *k, int code, int keeps)
{
    const struct cluster_room *r = cluster_look(k, "r");
    was_answered(k, code, "a", 1);
    cr_assert(cluster_runs(k, 0, "r"));
    cr_assert_eq(r->info.epoch, 1);
    cr_assert_eq(r->keeps, keeps);
    cr_assert_eq(r->still, 0);
    cr_assert(r->drops == 0 && r->migrated == 0 && r->disposed == 0);
}

static void moved(struct cluster *k, unsigned to)
{
    const struct cluster_room *r = cluster_look(k, "r");
    was_answered(k, ROOM_E_OK, k->nodes[to].id.s, 2);
    cr_assert(cluster_runs(k, to, "r"));
    cr_assert_eq(r->info.epoch, 2);
    cr_assert(r->migrated == 1 && r->restores == 1 && r->drops == 1 && r->keeps == 0 && r->disposed == 0);
    cr_assert_str_eq(r->reason, "migration");
    cr_assert_str_eq(r->from.s, "a");
    cr_assert_eq(r->still, 0);
}

Test(core_move, a_room_moves_to_the_node_named)
{
    static const char *const types[] = {"safe", "snap", "stay", "game"};
    for (int i = 0; i < 4; i++) {
        struct cluster k;
        begin(&k, 3, types[i]);
        cluster_move(&k, 0, "r", "c");
        cluster_run(&k, 100);
        moved(&k, 2);
        cr_assert_eq(cluster_look(&k, "r")->info.restores, 1, "its new owner's first try");
        cluster_run(&k, 31000);
        cr_assert_eq(cluster_look(&k, "r")->info.restores, 0);
        moved(&k, 2);
        cluster_end(&k);
    }
}

Test(core_move, there_and_back_again)
{
    struct cluster k;
    begin(&k, 2, "safe");
    for (unsigned i = 1; i <= 6; i++) {
        cluster_move(&k, (i + 1) % 2, "r", i % 2 ? "b" : "a");
        cluster_run(&k, 100);
        cr_assert(cluster_runs(&k, i % 2, "r"));
        cr_assert_eq(cluster_look(&k, "r")->info.epoch, 1 + i);
        cr_assert_eq(cluster_look(&k, "r")->migrated, (int)i);
    }
    cr_assert_eq(core_rooms(k.nodes[1].c), 0);
    cluster_end(&k);
}

static uint32_t knows_nothing(void *arg, const char *type)
{
    (void)arg, (void)type;
    return 0;
}

Test(core_move, the_placement_leaves_out_this_node_and_those_that_refuse)
{
    struct cluster k;
    begin(&k, 1, "safe");
    k.config.type_max_players = knows_nothing;
    for (int i = 0; i < 3; i++)
        cluster_node(&k, 100);
    k.config.type_max_players = k.nodes[0].config.type_max_players;
    cluster_node(&k, 100);
    for (int i = 0; i < 5; i++) /* the least empty: asked last */
        cluster_room(&k, 4, (char[]){(char)('0' + i), 0}, "duel");
    cluster_run(&k, 1500);
    k.answers = 0;
    cluster_move(&k, 0, "r", "");
    cluster_run(&k, 100);
    cr_assert_eq(k.asked, 4);
    moved(&k, 4);
    cluster_end(&k);
}

static int drains(struct cluster *k)
{
    cluster_event(k, 1, (struct core_event){.kind = CORE_EV_DRAIN, .on = true});
    return ROOM_E_DRAINING;
}

static int knows_no_type(struct cluster *k)
{
    k->config.type_max_players = knows_nothing;
    k->nodes[1].config = k->config;
    k->nodes[1].config.self = world_server("b", "");
    cluster_restart(k, 1);
    cluster_run(k, 3000);
    return ROOM_E_UNKNOWN_TYPE;
}

static int is_full(struct cluster *k)
{
    k->nodes[1].config.self.capacity = 1;
    cluster_restart(k, 1);
    cluster_run(k, 3000);
    cluster_room(k, 1, "other", "duel");
    return ROOM_E_FULL;
}

static int is_isolated(struct cluster *k)
{
    cluster_event(k, 1, (struct core_event){.kind = CORE_EV_BUS_DOWN});
    cluster_run(k, 2500);
    return ROOM_E_UNAVAILABLE;
}

static int does_not_hear(struct cluster *k)
{
    k->calls = CALLS_LOST;
    return ROOM_E_TIMEOUT;
}

static int is_not_heard(struct cluster *k)
{
    k->calls = CALLS_UNHEARD;
    return ROOM_E_TIMEOUT;
}

static int is_dead(struct cluster *k)
{
    cluster_kill(k, 1);
    return ROOM_E_NO_RESPONDERS;
}

Test(core_move, a_target_that_does_not_take_it_costs_the_room_nothing)
{
    int (*const how[])(struct cluster *) = {drains, knows_no_type, is_full, is_isolated, does_not_hear, is_not_heard,
                                            is_dead};
    for (size_t i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
        for (int chosen = 0; chosen < 2; chosen++) {
            struct cluster k;
            begin(&k, 2, "safe");
            int code = how[i](&k);
            k.answers = 0;
            cluster_move(&k, 0, "r", chosen ? "" : "b");
            cluster_run(&k, 500);
            cr_assert(k.answers == 1 && k.answer.code != ROOM_E_OK);
            if (chosen)
                k.answer.code = code; /* the view knows what the target would have said */
            stayed(&k, code, 0);
            cr_assert_eq(cluster_look(&k, "r")->releases, 0);
            cluster_end(&k);
        }
    }
}

Test(core_move, what_was_agreed_to_and_does_not_come_is_forgotten)
{
    struct cluster k;
    begin(&k, 2, "safe");
    k.calls = CALLS_UNHEARD;
    cluster_move(&k, 0, "r", "b");
    cr_assert_eq(core_rooms(k.nodes[1].c), 1, "it counts against the capacity");
    cluster_run(&k, MOVE_MS + 100);
    cr_assert_eq(core_rooms(k.nodes[1].c), 0);
    stayed(&k, ROOM_E_TIMEOUT, 0);
    cluster_end(&k);
}

Test(core_move, agreed_rooms_count_against_the_capacity)
{
    struct cluster k;
    begin(&k, 1, "safe");
    cluster_node(&k, 1);
    cluster_room(&k, 0, "s", "safe");
    cluster_run(&k, 500);
    k.hold_release = true;
    cluster_move(&k, 0, "r", "b");
    k.answers = 0;
    cluster_move(&k, 0, "s", "b");
    cr_assert_eq(k.answer.code, ROOM_E_FULL);
    cluster_room(&k, 1, "t", "duel");
    cr_assert_eq(k.answer.code, ROOM_E_FULL, "nor is there one made");
    k.answers = 0;
    cluster_saved(&k, 0, "r");
    moved(&k, 1);
    cluster_end(&k);
}

Test(core_move, what_cannot_be_moved_is_refused)
{
    struct cluster k;
    begin(&k, 2, "safe");
    cluster_room(&k, 0, "none", "duel");
    cluster_run(&k, 500);
    const struct {
        const char *room, *to;
        int code;
    } rows[] = {{"no-such", "b", ROOM_E_NOT_FOUND}, {"none", "b", ROOM_E_UNSUPPORTED}, {"r", "a", ROOM_E_INVALID},
                {"r", "no-such", ROOM_E_NO_RESPONDERS}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cluster_move(&k, 0, rows[i].room, rows[i].to);
        cr_assert_eq(k.answer.code, rows[i].code, "%s to %s: %s", rows[i].room, rows[i].to,
                     room_error_name(k.answer.code));
    }
    cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_BUS_DOWN});
    cluster_room(&k, 0, "unlisted", "snap");
    cluster_move(&k, 0, "unlisted", "b");
    cr_assert_eq(k.answer.code, ROOM_E_UNAVAILABLE);
    cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_BUS_UP});
    k.hold_release = true;
    k.answers = 0;
    cluster_move(&k, 0, "r", "b");
    cr_assert_eq(k.answers, 0);
    cluster_move(&k, 0, "r", "b");
    cr_assert_eq(k.answer.code, ROOM_E_ALREADY);
    cluster_end(&k);
}

Test(core_move, no_more_than_some_rooms_move_at_a_time)
{
    struct cluster k;
    begin(&k, 2, "safe");
    for (int i = 0; i < CORE_MOVES_MAX; i++)
        cluster_room(&k, 0, (char[]){(char)('0' + i), 0}, "safe");
    cluster_run(&k, 1000);
    k.hold_release = true;
    for (int i = 0; i < CORE_MOVES_MAX; i++)
        cluster_move(&k, 0, (char[]){(char)('0' + i), 0}, "b");
    k.answers = 0;
    cluster_move(&k, 0, "r", "b");
    stayed(&k, ROOM_E_FULL, 0);
    cluster_end(&k);
}

Test(core_move, a_room_that_cannot_be_saved_goes_on)
{
    struct cluster k;
    begin(&k, 2, "safe");
    k.release_code = ROOM_E_IO;
    cluster_move(&k, 0, "r", "b");
    stayed(&k, ROOM_E_IO, 1);
    k.release_code = 0;
    k.answers = 0;
    cluster_look(&k, "r")->keeps = 0;
    cluster_move(&k, 0, "r", "b");
    cluster_run(&k, 100);
    moved(&k, 1);
    cluster_end(&k);
}

Test(core_move, a_save_that_takes_too_long_is_called_off_and_its_late_end_means_nothing)
{
    struct cluster k;
    begin(&k, 2, "safe");
    k.hold_release = true;
    cluster_move(&k, 0, "r", "b");
    uint64_t first = cluster_look(&k, "r")->token;
    cluster_run(&k, MOVE_MS - 100);
    cr_assert_eq(k.answers, 0);
    cr_assert_eq(core_route(k.nodes[0].c, "r", NULL).kind, CORE_ROUTE_UNAVAILABLE);
    cluster_run(&k, 200);
    stayed(&k, ROOM_E_TIMEOUT, 1);
    cluster_released(&k, 0, "r", first);
    cluster_run(&k, 500);
    stayed(&k, ROOM_E_TIMEOUT, 1);
    cluster_look(&k, "r")->keeps = 0;
    k.answers = 0;
    cluster_move(&k, 0, "r", "b");
    cr_assert_neq(cluster_look(&k, "r")->token, first);
    cluster_released(&k, 0, "r", first); /* of a state that is older than what came since */
    cluster_run(&k, 500);
    cr_assert_eq(cluster_look(&k, "r")->info.epoch, 1);
    cluster_saved(&k, 0, "r");
    moved(&k, 1);
    cluster_end(&k);
}

Test(core_move, what_changed_while_it_stood_still_is_listed)
{
    struct cluster k;
    begin(&k, 2, "safe");
    k.hold_release = true;
    cluster_move(&k, 0, "r", "b");
    struct room_info now = {.id = world_id("r"), .players = 1, .seats = 2, .seats_version = 9, .max_players = 2};
    cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_ROOM_CHANGED, .room = &now});
    k.release_code = ROOM_E_IO;
    cluster_saved(&k, 0, "r");
    cluster_run(&k, 500);
    stayed(&k, ROOM_E_IO, 1);
    cr_assert_eq(cluster_look(&k, "r")->info.seats, 2);
    cluster_end(&k);
}

Test(core_move, an_unknown_commit_is_settled)
{
    for (enum cluster_fault fault = CLUSTER_APPLIED; fault <= CLUSTER_HELD; fault++) {
        for (unsigned more = 0; more < 3; more++) {
            struct cluster k;
            begin(&k, 3, "safe");
            k.hold_release = true;
            cluster_move(&k, 0, "r", "c");
            k.fault = fault;
            k.faults = fault == CLUSTER_LOST ? more : 0;
            cluster_saved(&k, 0, "r");
            cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_TICK});
            const struct cluster_room *r = cluster_look(&k, "r");
            cr_assert(k.answers == (fault == CLUSTER_APPLIED && r->drops) && r->keeps == 0, "not yet known");
            cluster_run(&k, 2000);
            if (fault == CLUSTER_HELD)
                cluster_late(&k); /* it comes too late for anything */
            cluster_run(&k, 500);
            if (fault == CLUSTER_APPLIED || fault == CLUSTER_LATE)
                moved(&k, 2);
            else
                stayed(&k, ROOM_E_TIMEOUT, 1);
            cluster_end(&k);
        }
    }
}

Test(core_move, while_the_registry_is_silent_a_committed_room_stands_still_and_the_asker_is_told)
{
    struct cluster k;
    begin(&k, 2, "safe");
    k.hold_release = true;
    cluster_move(&k, 0, "r", "b");
    k.fault = CLUSTER_LOST;
    k.faults = 1000000;
    cluster_saved(&k, 0, "r");
    cluster_run(&k, MOVE_MS + 2000);
    was_answered(&k, ROOM_E_TIMEOUT, "a", 1);
    cr_assert_eq(cluster_look(&k, "r")->still, 1);
    k.faults = 0;
    cluster_run(&k, 1000);
    stayed(&k, ROOM_E_TIMEOUT, 1);
    cluster_end(&k);
}

Test(core_move, somebody_elses_entry_ends_the_move_and_the_room)
{
    struct cluster k;
    begin(&k, 3, "safe");
    k.hold_release = true;
    cluster_move(&k, 0, "r", "b");
    struct room_info other = cluster_look(&k, "r")->info;
    other.epoch = 2;
    other.owner = world_id("c");
    memcpy(other.boot, core_self(k.nodes[2].c)->boot, sizeof(other.boot));
    cluster_write(&k, &other);
    cr_assert_eq(k.answer.code, ROOM_E_FENCED);
    cr_assert_eq(cluster_look(&k, "r")->drops, 1);
    cluster_saved(&k, 0, "r");
    cr_assert_eq(cluster_look(&k, "r")->info.epoch, 2, "nothing is committed any more");
    cr_assert_str_eq(cluster_look(&k, "r")->info.owner.s, "c");
    cluster_end(&k);
}

Test(core_move, a_commit_that_somebody_was_faster_than_is_rolled_back)
{
    struct cluster k;
    begin(&k, 2, "safe");
    k.hold_release = true;
    cluster_move(&k, 0, "r", "b");
    k.deaf = true; /* an entry of ours that we do not know of */
    struct room_info mine = cluster_look(&k, "r")->info;
    memcpy(mine.nonce, "x", 2);
    cluster_write(&k, &mine);
    k.deaf = false;
    cluster_saved(&k, 0, "r");
    cluster_run(&k, 200);
    stayed(&k, ROOM_E_CONFLICT, 1);
    cluster_end(&k);
}

Test(core_move, a_room_that_ends_on_the_way_ends)
{
    struct room_info room = {.id = world_id("r")};
    for (int committing = 0; committing < 2; committing++) {
        struct cluster k;
        begin(&k, 2, "safe");
        k.hold_release = true;
        cluster_move(&k, 0, "r", "b");
        if (committing) {
            k.fault = CLUSTER_LOST;
            cluster_saved(&k, 0, "r");
        }
        cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_ROOM_ENDED, .room = &room, .reason = "won"});
        cluster_run(&k, 1000);
        const struct cluster_room *r = cluster_look(&k, "r");
        cr_assert(r->deleted && r->disposed == 1 && r->migrated == 0 && r->keeps == 0);
        cr_assert_str_eq(r->reason, "won");
        was_answered(&k, ROOM_E_CANCELLED, "a", 1);
        cluster_end(&k);
    }
}

Test(core_move, a_room_that_ends_after_it_has_moved_lives)
{
    struct room_info room = {.id = world_id("r")};
    struct cluster k;
    begin(&k, 2, "safe");
    k.hold_release = true;
    cluster_move(&k, 0, "r", "b");
    k.fault = CLUSTER_APPLIED;
    k.deaf = true;
    cluster_saved(&k, 0, "r");
    cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_ROOM_ENDED, .room = &room, .reason = "won"});
    k.deaf = false;
    cluster_run(&k, 1000);
    moved(&k, 1);
    cluster_end(&k);
}

/* The old owner has heard nothing of its commit; nor of the rest of the room's life. */
Test(core_move, a_room_that_has_moved_and_ended_there_does_not_come_back)
{
    struct cluster k;
    begin(&k, 2, "safe");
    k.hold_release = true;
    cluster_move(&k, 0, "r", "b");
    k.fault = CLUSTER_APPLIED;
    k.deaf = true;
    cluster_saved(&k, 0, "r");
    struct cluster_room *r = cluster_look(&k, "r");
    cr_assert_eq(r->info.epoch, 2);
    r->deleted = true;
    r->revision = ++k.revision;
    cluster_run(&k, 2000);
    cr_assert(r->deleted && r->drops == 1 && r->keeps == 0);
    cr_assert_eq(k.answer.code, ROOM_E_NOT_FOUND, "%s", room_error_name(k.answer.code));
    cluster_end(&k);
}

Test(core_move, a_create_of_its_name_waits_for_the_outcome)
{
    for (int moves = 0; moves < 2; moves++) {
        struct cluster k;
        begin(&k, 2, "safe");
        k.hold_release = true;
        cluster_move(&k, 0, "r", "b");
        struct core_call call = {.kind = CORE_CALL_CREATE, .room = world_id("r"), .type = world_id("safe")};
        cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_CALL, .req = 8, .call = &call});
        cluster_run(&k, 500);
        cr_assert_eq(k.answers, 0);
        k.release_code = moves ? ROOM_E_OK : ROOM_E_IO;
        cluster_saved(&k, 0, "r");
        cr_assert_eq(k.answers, 2);
        k.answers = 1;
        cr_assert(cluster_runs(&k, moves ? 1 : 0, "r"));
        cluster_end(&k);
    }
}
