/* Moves whose new owner is late, unsure or dead, whose old owner dies or stops, and both. */
#include <stdio.h>

#include "core_cluster.h"

TestSuite(core_handover, .timeout = 60);

/* Room r of `a` stands still, and is about to be `b`'s. */
static void under_way(struct cluster *k, int nodes, const char *type)
{
    cluster_init(k);
    for (int i = 0; i < nodes; i++)
        cluster_node(k, 100);
    cluster_room(k, 0, "r", type);
    cluster_run(k, 500);
    k->answers = 0;
    k->hold_release = true;
    cluster_move(k, 0, "r", "b");
    cr_assert_eq(cluster_look(k, "r")->still, 1);
}

static int held(struct cluster *k, unsigned node, const struct core_fx *fx)
{
    (void)k, (void)node, (void)fx;
    return CLUSTER_HOLD;
}

/* The same, and it has become so; `b` has not brought it back yet. */
static void committed(struct cluster *k, int nodes, const char *type)
{
    under_way(k, nodes, type);
    k->restore = held;
    cluster_saved(k, 0, "r");
    const struct cluster_room *r = cluster_look(k, "r");
    cr_assert_str_eq(r->info.owner.s, "b");
    cr_assert_str_eq(r->info.boot, core_self(k->nodes[1].c)->boot);
    cr_assert(r->info.state == ROOM_STARTING && r->info.epoch == 2 && r->restores == 1);
}

static void restored(struct cluster *k, unsigned node, int code)
{
    struct core_answer answer = {.code = code, .room = world_id("r"), .epoch = cluster_look(k, "r")->info.epoch,
                                 .max_players = 2};
    cluster_event(k, node, (struct core_event){.kind = CORE_EV_STARTED, .answer = &answer});
}

static void arrived(struct cluster *k, unsigned node, uint64_t epoch, const char *reason, const char *from)
{
    const struct cluster_room *r = cluster_look(k, "r");
    cr_assert(cluster_runs(k, node, "r"));
    cr_assert_eq(r->info.epoch, epoch);
    cr_assert_eq(r->migrated, 1, "%d times", r->migrated);
    cr_assert_str_eq(r->reason, reason);
    cr_assert_str_eq(r->from.s, from);
    cr_assert(r->disposed == 0 && r->gone == 0 && r->parked == 0);
}

Test(core_handover, the_watch_or_the_old_owners_word_is_enough)
{
    for (int deaf = 0; deaf < 2; deaf++) {
        for (enum cluster_calls news = CALLS_FINE; news <= CALLS_UNHEARD; news++) {
            struct cluster k;
            under_way(&k, 3, "safe");
            k.deaf = deaf;
            k.news = news;
            cluster_saved(&k, 0, "r");
            const struct cluster_room *r = cluster_look(&k, "r");
            cr_assert_eq(r->restores, !deaf || news != CALLS_LOST, "at once, and once");
            k.deaf = false;
            if (deaf) {
                cluster_listing(&k, 1);
                cluster_listing(&k, 2);
            }
            cluster_run(&k, 100);
            arrived(&k, 1, 2, "migration", "a");
            cr_assert_eq(r->restores, 1);
            cluster_end(&k);
        }
    }
}

Test(core_handover, a_room_that_is_no_longer_expected_is_taken_all_the_same)
{
    for (int named = 0; named < 2; named++) {
        struct cluster k;
        cluster_init(&k);
        cluster_node(&k, 100);
        k.config.migration_timeout_ms = 200;
        cluster_node(&k, 100);
        cluster_room(&k, 0, "r", named ? "game" : "safe");
        cluster_run(&k, 500);
        k.hold_release = true;
        cluster_move(&k, 0, "r", "b");
        cluster_run(&k, 500);
        cr_assert_eq(core_rooms(k.nodes[1].c), 0, "it is not waited for any more");
        k.news = CALLS_LOST;
        cluster_saved(&k, 0, "r");
        cluster_run(&k, 100);
        arrived(&k, 1, 2, "migration", "a");
        cluster_end(&k);
    }
}

Test(core_handover, late_news_of_a_room_that_has_come_and_gone_start_nothing)
{
    struct room_info room = {.id = world_id("r")};
    struct cluster k;
    committed(&k, 2, "safe");
    struct cluster_room *r = cluster_look(&k, "r");
    struct room_info old = r->info;
    uint64_t revision = r->revision;
    restored(&k, 1, ROOM_E_OK);
    cluster_run(&k, 200);
    cluster_event(&k, 1, (struct core_event){.kind = CORE_EV_ROOM_ENDED, .room = &room, .reason = "won"});
    cluster_run(&k, 200);
    cr_assert(r->deleted && r->disposed == 1);
    cluster_event(&k, 1, (struct core_event){.kind = CORE_EV_ROOM_ENTRY, .room = &old, .revision = revision});
    cluster_run(&k, 15000);
    cr_assert_eq(r->restores, 1);
    cr_assert(r->deleted && r->migrated == 1);
    cr_assert_eq(core_rooms(k.nodes[1].c), 0);
    cluster_end(&k);
}

Test(core_handover, a_room_without_a_state_at_its_new_owner_leaves_the_listing)
{
    struct cluster k;
    committed(&k, 2, "game");
    restored(&k, 1, ROOM_E_NOT_FOUND);
    cluster_run(&k, 200);
    const struct cluster_room *r = cluster_look(&k, "r");
    cr_assert(r->deleted && r->disposed == 1 && r->migrated == 0);
    cr_assert_str_eq(r->reason, "state_lost");
    cluster_end(&k);
}

Test(core_handover, a_restore_that_fails_is_tried_again_where_the_room_belongs)
{
    struct cluster k;
    committed(&k, 3, "safe");
    restored(&k, 1, ROOM_E_IO);
    k.restore = NULL;
    cluster_run(&k, 1000);
    arrived(&k, 1, 2, "migration", "a");
    cr_assert_eq(cluster_look(&k, "r")->info.restores, 2);
    cluster_end(&k);
}

Test(core_handover, a_target_that_dies_before_the_commit_gets_nothing)
{
    for (int just_now = 0; just_now < 2; just_now++) {
        struct cluster k;
        under_way(&k, 3, "safe");
        cluster_kill(&k, 1);
        if (!just_now)
            cluster_run(&k, CORE_TICK_MS);
        cr_assert_eq(k.answers, !just_now, "nobody waits for the save");
        cluster_saved(&k, 0, "r");
        cr_assert_eq(k.answer.code, ROOM_E_NO_RESPONDERS);
        cluster_run(&k, 3000);
        const struct cluster_room *r = cluster_look(&k, "r");
        cr_assert(cluster_runs(&k, 0, "r") && r->keeps == 1 && r->still == 0 && r->info.epoch == 1 && !r->migrated);
        cluster_end(&k);
    }
}

Test(core_handover, a_target_that_came_back_gets_nothing_either)
{
    struct cluster k;
    under_way(&k, 2, "safe");
    cluster_restart(&k, 1);
    cluster_run(&k, 2000);
    const struct cluster_room *r = cluster_look(&k, "r");
    cr_assert(cluster_runs(&k, 0, "r") && r->keeps == 1 && r->info.epoch == 1);
    cluster_end(&k);
}

Test(core_handover, a_target_that_dies_after_the_commit_is_replaced_by_a_third)
{
    struct cluster k;
    committed(&k, 3, "safe");
    cluster_crash(&k, 0);
    k.restore = NULL;
    cluster_kill(&k, 1);
    cluster_run(&k, 3000);
    arrived(&k, 2, 3, "failover", "b");
    cr_assert_eq(cluster_look(&k, "r")->info.restores, 2);
    cluster_end(&k);
}

Test(core_handover, an_old_owner_that_dies_before_the_commit_is_replaced_as_ever)
{
    for (int rank = 0; rank < 2; rank++) {
        struct cluster k;
        under_way(&k, 2 + rank, "safe");
        cluster_kill(&k, 0);
        cluster_run(&k, 5000);
        const struct cluster_room *r = cluster_look(&k, "r");
        arrived(&k, (unsigned)(r->info.owner.s[0] - 'a'), 2, "failover", "a");
        cr_assert_eq(r->restores, 1);
        cr_assert_eq(core_rooms(k.nodes[1].c), r->info.owner.s[0] == 'b', "nothing is expected any more");
        cluster_run(&k, 10000);
        cr_assert_eq(core_rooms(k.nodes[1].c), r->info.owner.s[0] == 'b');
        cluster_end(&k);
    }
}

Test(core_handover, an_old_owner_that_dies_after_the_commit_is_not_missed)
{
    struct cluster k;
    committed(&k, 3, "safe");
    cluster_kill(&k, 0);
    restored(&k, 1, ROOM_E_OK);
    cluster_run(&k, 5000);
    arrived(&k, 1, 2, "migration", "a");
    cluster_end(&k);
}

Test(core_handover, a_fenced_old_owner_moves_nothing)
{
    struct cluster k;
    under_way(&k, 3, "safe");
    k.servers[0].status = SERVER_DOWN;
    struct server_info down = k.servers[0];
    for (unsigned i = 0; i < 3; i++)
        cluster_event(&k, i, (struct core_event){.kind = CORE_EV_SERVER_ENTRY, .server = &down, .revision = ++k.revision});
    cr_assert_eq(k.answer.code, ROOM_E_FENCED);
    cluster_saved(&k, 0, "r");
    cluster_run(&k, 5000);
    const struct cluster_room *r = cluster_look(&k, "r");
    arrived(&k, (unsigned)(r->info.owner.s[0] - 'a'), 2, r->info.owner.s[0] == 'a' ? "restart" : "failover", "a");
    cluster_end(&k);
}

Test(core_handover, a_stop_while_it_is_saved_becomes_an_ordinary_release)
{
    struct cluster k;
    under_way(&k, 3, "safe");
    struct cluster_room *r = cluster_look(&k, "r");
    uint64_t moving = r->token;
    cluster_stop(&k, 0);
    cr_assert_eq(k.answer.code, ROOM_E_CANCELLED);
    cr_assert(r->releases == 2 && r->token == 0 && r->still == 0);
    cluster_released(&k, 0, "r", moving);
    cluster_run(&k, 500);
    cr_assert_str_eq(r->info.owner.s, "a", "that was of another release");
    cluster_saved(&k, 0, "r");
    cluster_run(&k, 500);
    cr_assert(k.nodes[0].stopped);
    arrived(&k, (unsigned)(r->info.owner.s[0] - 'a'), 2, "released", "a");
    cr_assert(r->keeps == 0 && r->drops == 0);
    cluster_end(&k);
}

Test(core_handover, a_stop_before_the_commit_can_be_sent_does_not_send_it)
{
    struct cluster k;
    under_way(&k, 3, "safe");
    cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_BUS_DOWN});
    cluster_saved(&k, 0, "r");
    cluster_stop(&k, 0);
    cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_BUS_UP});
    cluster_saved(&k, 0, "r");
    cluster_run(&k, 500);
    const struct cluster_room *r = cluster_look(&k, "r");
    arrived(&k, (unsigned)(r->info.owner.s[0] - 'a'), 2, "released", "a");
    cluster_end(&k);
}

Test(core_handover, a_stop_while_the_commit_is_unknown_waits_for_it)
{
    for (enum cluster_fault fault = CLUSTER_APPLIED; fault <= CLUSTER_HELD; fault++) {
        struct cluster k;
        under_way(&k, 3, "safe");
        k.deaf = true;
        k.fault = fault;
        cluster_saved(&k, 0, "r");
        k.hold_release = k.deaf = false;
        cluster_stop(&k, 0);
        cr_assert_eq(cluster_look(&k, "r")->releases, 1);
        for (unsigned i = 1; i < 3; i++)
            cluster_listing(&k, i);
        cluster_run(&k, 2000);
        if (fault == CLUSTER_HELD)
            cluster_late(&k);
        cluster_run(&k, 2000);
        bool gone = fault == CLUSTER_APPLIED || fault == CLUSTER_LATE;
        const struct cluster_room *r = cluster_look(&k, "r");
        cr_assert(k.nodes[0].stopped && k.servers[0].status == 0, "fault %d", (int)fault);
        arrived(&k, (unsigned)(r->info.owner.s[0] - 'a'), 2, gone ? "migration" : "released", "a");
        cr_assert_eq(k.answers, 1);
        cr_assert_eq(k.answer.code, gone ? ROOM_E_OK : ROOM_E_CANCELLED);
        cr_assert_eq(r->keeps, 0);
        cluster_end(&k);
    }
}

Test(core_handover, a_target_that_stops_passes_the_room_on)
{
    struct cluster k;
    under_way(&k, 3, "safe");
    cluster_room(&k, 1, "s", "safe");
    cluster_run(&k, 200);
    cluster_stop(&k, 1); /* it has a room of its own to save yet */
    cluster_saved(&k, 0, "r");
    cluster_run(&k, 500);
    const struct cluster_room *r = cluster_look(&k, "r");
    cr_assert(r->migrated == 1 && r->info.epoch == 3 && r->info.restores == 1);
    cr_assert_str_eq(r->reason, "released");
    cluster_end(&k);
}

Test(core_handover, a_room_that_comes_while_nobody_reaches_the_target_waits_for_it)
{
    struct cluster k;
    under_way(&k, 2, "safe");
    cluster_event(&k, 1, (struct core_event){.kind = CORE_EV_BUS_DOWN});
    cluster_run(&k, 2500);
    cr_assert(core_is_isolated(k.nodes[1].c));
    k.news = CALLS_LOST;
    cluster_saved(&k, 0, "r");
    cluster_run(&k, 500);
    cr_assert_eq(cluster_look(&k, "r")->restores, 0);
    cluster_event(&k, 1, (struct core_event){.kind = CORE_EV_BUS_UP});
    cluster_run(&k, 3000);
    arrived(&k, 1, 2, "migration", "a");
    cluster_end(&k);
}
