/* Rooms that have lost their owner: who takes them, how evenly, and what happens when nobody can. */
#include <stdio.h>

#include "core_cluster.h"

TestSuite(core_adopt, .timeout = 60);

static const char *name(int i)
{
    static char names[4][16];
    static int at;
    char *s = names[at++ % 4];
    snprintf(s, sizeof(names[0]), "r%d", i);
    return s;
}

static void rooms(struct cluster *k, unsigned node, int count, const char *type)
{
    for (int i = 0; i < count; i++)
        cluster_room(k, node, name(i), type);
    cluster_run(k, 3000);
    cr_assert_eq(cluster_running(k, node), (unsigned)count);
}

static void three_with_rooms(struct cluster *k, int count, const char *type)
{
    cluster_init(k);
    for (int i = 0; i < 3; i++)
        cluster_node(k, 1000);
    rooms(k, 0, count, type);
}

Test(core_adopt, rooms_of_the_dead_spread_over_all_survivors)
{
    enum { ROOMS = 300 };
    struct cluster k;
    cluster_init(&k);
    for (int i = 0; i < 4; i++)
        cluster_node(&k, 1000);
    rooms(&k, 0, ROOMS, "safe");
    cluster_kill(&k, 0);
    cluster_run(&k, 500);
    for (unsigned i = 1; i < 4; i++) {
        unsigned share = cluster_running(&k, i);
        cr_assert(share > ROOMS / 6 && share < 2 * ROOMS / 3, "%u rooms on node %u", share, i);
    }
    cluster_run(&k, 5000);
    for (int i = 0; i < ROOMS; i++) {
        const struct cluster_room *r = cluster_look(&k, name(i));
        cr_assert(r->migrated == 1 && r->gone == 0 && r->disposed == 0, "%s: %d times", name(i), r->migrated);
        cr_assert_str_eq(r->reason, "failover");
        cr_assert_str_eq(r->from.s, "a");
        cr_assert_eq(r->info.epoch, 2);
        cr_assert_eq(r->info.durability, DURABILITY_JOURNAL);
        cr_assert(cluster_runs(&k, (unsigned)(r->info.owner.s[0] - 'a'), name(i)));
    }
    cluster_end(&k);
}

Test(core_adopt, shares_are_in_proportion_to_the_weights)
{
    enum { SUBJECTS = 20000 };
    const uint32_t weights[] = {100, 200, 700, 0};
    const char *const servers[] = {"node-1", "node-2", "node-3", "node-4"};
    int won[4] = {0};
    for (int i = 0; i < SUBJECTS; i++) {
        int best = 0;
        for (int s = 1; s < 4; s++)
            if (adopt_score(name(i), servers[s], weights[s]) > adopt_score(name(i), servers[best], weights[best]))
                best = s;
        won[best]++;
    }
    for (int s = 0; s < 4; s++) {
        double share = (double)won[s] / SUBJECTS, due = weights[s] / 1000.0;
        cr_assert(share > due - 0.015 && share < due + 0.015, "%s: %f", servers[s], share);
    }
}

Test(core_adopt, who_has_more_room_takes_more)
{
    struct cluster k;
    cluster_init(&k);
    cluster_node(&k, 500);
    cluster_node(&k, 100);
    cluster_node(&k, 900);
    rooms(&k, 0, 400, "safe");
    cluster_kill(&k, 0);
    cluster_run(&k, 3000);
    cr_assert_eq(cluster_running(&k, 1) + cluster_running(&k, 2), 400);
    cr_assert(cluster_running(&k, 1) > 15 && cluster_running(&k, 1) < 75, "%u", cluster_running(&k, 1));
    cluster_end(&k);
}

Test(core_adopt, the_next_in_rank_steps_in_when_the_first_is_gone_too)
{
    struct cluster k;
    three_with_rooms(&k, 60, "safe");
    cluster_crash(&k, 1); /* nobody has noticed: it is still in everybody's rank */
    cluster_kill(&k, 0);
    cluster_run(&k, 1000);
    unsigned at_once = cluster_running(&k, 2);
    cr_assert(at_once > 10 && at_once < 50, "%u", at_once);
    cluster_run(&k, 1000);
    cr_assert_eq(cluster_running(&k, 2), 60);
    cluster_end(&k);
}

Test(core_adopt, a_node_that_is_back_is_first_for_its_own_rooms)
{
    struct cluster k;
    three_with_rooms(&k, 60, "safe");
    cluster_restart(&k, 0);
    cluster_run(&k, 5000);
    cr_assert_eq(cluster_running(&k, 0), 60);
    const struct cluster_room *r = cluster_look(&k, "r7");
    cr_assert_eq(r->migrated, 1);
    cr_assert_str_eq(r->reason, "restart");
    cr_assert_eq(r->info.epoch, 2);
    cluster_end(&k);
}

Test(core_adopt, rooms_that_are_not_kept_leave_the_listing_and_are_told)
{
    struct cluster k;
    three_with_rooms(&k, 20, "duel");
    cluster_room(&k, 0, "kept", "snap");
    cluster_room(&k, 0, "tied", "stay");
    cluster_run(&k, 200);
    cluster_kill(&k, 0);
    cluster_run(&k, 5000);
    for (int i = 0; i < 20; i++) {
        const struct cluster_room *r = cluster_look(&k, name(i));
        cr_assert(r->deleted && r->disposed == 1 && r->gone && r->migrated == 0);
        cr_assert_str_eq(r->reason, "room_lost");
    }
    cr_assert(cluster_look(&k, "tied")->deleted, "its type is not to be taken over");
    cr_assert_eq(cluster_look(&k, "tied")->disposed, 1);
    cr_assert_eq(cluster_look(&k, "kept")->migrated, 1);
    cr_assert_eq(cluster_look(&k, "kept")->gone, 0);
    cluster_end(&k);
}

Test(core_adopt, what_nobody_has_room_for_is_pending_and_taken_later)
{
    struct cluster k;
    cluster_init(&k);
    cluster_node(&k, 10);
    cluster_node(&k, 2);
    cluster_node(&k, 2);
    rooms(&k, 0, 10, "safe");
    cluster_kill(&k, 0);
    cluster_run(&k, 15000);
    cr_assert_eq(cluster_running(&k, 1) + cluster_running(&k, 2), 4);
    uint64_t written = k.revision;
    int pending = 0;
    for (int i = 0; i < 10; i++) {
        const struct cluster_room *r = cluster_look(&k, name(i));
        pending += r->info.state == ROOM_PENDING;
        if (r->info.state == ROOM_PENDING)
            cr_assert(strcmp(r->info.owner.s, "a") == 0 && r->info.epoch == 1 && !r->gone);
    }
    cr_assert_eq(pending, 6);
    cluster_run(&k, 4000);
    cr_assert_leq(k.revision - written, 4, "only the heartbeats are written");
    cluster_node(&k, 100);
    cluster_run(&k, 5000);
    cr_assert_eq(cluster_running(&k, 3), 6);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(cluster_look(&k, name(i))->migrated, 1);
    cluster_end(&k);
}

static int broken(struct cluster *k, unsigned node, const struct core_fx *fx)
{
    (void)node;
    cr_assert_eq(cluster_look(k, fx->room_entry.id.s)->info.restores, cluster_look(k, fx->room_entry.id.s)->restores,
                 "each try is counted in the entry before it begins");
    return ROOM_E_IO;
}

Test(core_adopt, three_failed_tries_park_a_room)
{
    struct cluster k;
    three_with_rooms(&k, 1, "safe");
    k.restore = broken;
    cluster_kill(&k, 0);
    cluster_run(&k, 700);
    struct cluster_room *r = cluster_look(&k, "r0");
    cr_assert(r->restores == 2 && !r->parked, "%d", r->restores);
    cluster_run(&k, 2000);
    cr_assert_eq(r->restores, 3);
    cr_assert_eq(r->info.state, ROOM_PARKED);
    cr_assert_eq(r->info.epoch, 2);
    cr_assert_eq(r->parked, 1);
    uint64_t revision = r->revision;
    cluster_kill(&k, (unsigned)(r->info.owner.s[0] - 'a')); /* parked is parked, whoever lives */
    cluster_run(&k, 20000);
    cr_assert_eq(r->revision, revision);
    cr_assert(r->migrated == 0 && r->restores == 3);
    cluster_end(&k);
}

static int broken_once(struct cluster *k, unsigned node, const struct core_fx *fx)
{
    (void)node;
    cr_assert_eq(cluster_look(k, "r0")->info.restores, cluster_look(k, "r0")->restores);
    if (fx->room_entry.restores > 1)
        return ROOM_E_OK;
    k->fault = CLUSTER_LOST; /* the write that counts the next try */
    return ROOM_E_IO;
}

Test(core_adopt, a_count_that_was_not_written_is_written_again)
{
    struct cluster k;
    three_with_rooms(&k, 1, "safe");
    k.restore = broken_once;
    cluster_kill(&k, 0);
    cluster_run(&k, 3000);
    cr_assert_eq(cluster_look(&k, "r0")->migrated, 1);
    cr_assert_eq(cluster_look(&k, "r0")->restores, 2);
    cluster_end(&k);
}

static void parked_by_the_next(enum cluster_fault fault)
{
    struct cluster k;
    cluster_init(&k);
    for (int i = 0; i < 5; i++)
        cluster_node(&k, 100);
    rooms(&k, 0, 1, "safe");
    struct cluster_room *r = cluster_look(&k, "r0");
    for (int deaths = 0; deaths < 4; deaths++) {
        cr_assert_eq(r->info.restores, deaths);
        k.fault = deaths == 3 ? fault : CLUSTER_FINE;
        cluster_kill(&k, (unsigned)(r->info.owner.s[0] - 'a'));
        cluster_run(&k, 3000);
    }
    cr_assert_eq(r->info.state, ROOM_PARKED);
    cr_assert_eq(r->parked, 1);
    cr_assert_eq(r->migrated, 3);
    cr_assert_str_eq(r->reason, "owners_failed");
    cluster_end(&k);
}

Test(core_adopt, a_room_that_outlives_no_owner_is_parked_by_the_next)
{
    for (enum cluster_fault fault = CLUSTER_FINE; fault <= CLUSTER_LATE; fault++)
        parked_by_the_next(fault);
}

Test(core_adopt, a_restored_room_that_runs_for_long_enough_is_sound_again)
{
    struct cluster k;
    three_with_rooms(&k, 1, "safe");
    cluster_kill(&k, 0);
    cluster_run(&k, 29000);
    struct cluster_room *r = cluster_look(&k, "r0");
    cr_assert_eq(r->info.restores, 1);
    cluster_run(&k, 2000);
    cr_assert_eq(r->info.restores, 0);
    cluster_end(&k);
}

static int gone_or_over(struct cluster *k, unsigned node, const struct core_fx *fx)
{
    (void)k, (void)node;
    return fx->room_entry.id.s[1] == '0' ? ROOM_E_NOT_FOUND : ROOM_E_CANCELLED;
}

Test(core_adopt, a_room_without_state_or_that_had_ended_leaves_the_listing)
{
    struct cluster k;
    three_with_rooms(&k, 2, "safe");
    k.restore = gone_or_over;
    cluster_kill(&k, 0);
    cluster_run(&k, 3000);
    for (int i = 0; i < 2; i++) {
        const struct cluster_room *r = cluster_look(&k, name(i));
        cr_assert(r->deleted && r->disposed == 1 && r->migrated == 0 && r->restores == 1);
        cr_assert_str_eq(r->reason, i ? "closed" : "state_lost");
    }
    cluster_end(&k);
}

Test(core_adopt, an_unknown_claim_is_settled)
{
    for (enum cluster_fault fault = CLUSTER_APPLIED; fault <= CLUSTER_LATE; fault++) {
        struct cluster k;
        three_with_rooms(&k, 1, "safe");
        k.fault = fault;
        cluster_kill(&k, 0);
        cluster_run(&k, 5000);
        const struct cluster_room *r = cluster_look(&k, "r0");
        cr_assert(r->migrated == 1 && r->restores == 1 && r->info.restores == 1, "fault %d: %d times", (int)fault,
                  r->migrated);
        cr_assert_eq(r->info.epoch, 2, "fault %d: epoch %lu", (int)fault, (unsigned long)r->info.epoch);
        cr_assert(cluster_runs(&k, (unsigned)(r->info.owner.s[0] - 'a'), "r0"));
        cluster_end(&k);
    }
}

static int held(struct cluster *k, unsigned node, const struct core_fx *fx)
{
    (void)k, (void)node, (void)fx;
    return CLUSTER_HOLD;
}

/* Room r0 of `a` is being restored; returns by whom. */
static unsigned under_restore(struct cluster *k)
{
    three_with_rooms(k, 1, "safe");
    k->restore = held;
    cluster_kill(k, 0);
    cluster_run(k, 500);
    const struct cluster_room *r = cluster_look(k, "r0");
    cr_assert_eq(r->info.state, ROOM_STARTING);
    return (unsigned)(r->info.owner.s[0] - 'a');
}

static void restored(struct cluster *k, unsigned node, uint64_t epoch)
{
    struct core_answer answer = {.room = world_id("r0"), .epoch = epoch, .max_players = 2};
    cluster_event(k, node, (struct core_event){.kind = CORE_EV_STARTED, .answer = &answer});
}

Test(core_adopt, a_superseded_restore_is_called_off)
{
    struct cluster k;
    unsigned owner = under_restore(&k);
    struct cluster_room *r = cluster_look(&k, "r0");
    struct room_info other = r->info;
    other.epoch++;
    other.owner = world_id(owner == 1 ? "c" : "b");
    memcpy(other.boot, core_self(k.nodes[owner == 1 ? 2 : 1].c)->boot, sizeof(other.boot));
    cluster_write(&k, &other);
    cr_assert_eq(r->drops, 1);
    restored(&k, owner, 2);
    cr_assert_eq(r->migrated, 0);
    cr_assert_eq(cluster_running(&k, owner), 0);
    cluster_end(&k);
}

Test(core_adopt, an_answer_to_an_earlier_restore_starts_nothing)
{
    struct cluster k;
    unsigned owner = under_restore(&k);
    restored(&k, owner, 1);
    cr_assert_eq(cluster_running(&k, owner), 0);
    restored(&k, owner, 2);
    cr_assert(cluster_runs(&k, owner, "r0"), "listed at once");
    cluster_end(&k);
}

Test(core_adopt, nobody_is_sent_to_a_room_under_restore)
{
    struct cluster k;
    unsigned owner = under_restore(&k);
    for (unsigned i = 1; i < 3; i++) {
        cr_assert_eq(core_route(k.nodes[i].c, "r0", NULL).kind, CORE_ROUTE_UNAVAILABLE);
        cr_assert_null(view_open_room(core_view(k.nodes[i].c), "safe"));
    }
    restored(&k, owner, 2);
    for (unsigned i = 1; i < 3; i++) {
        cr_assert_eq(core_route(k.nodes[i].c, "r0", NULL).kind, i == owner ? CORE_ROUTE_LOCAL : CORE_ROUTE_REMOTE);
        cr_assert_not_null(view_open_room(core_view(k.nodes[i].c), "safe"));
    }
    cluster_end(&k);
}

static uint32_t knows_nothing(void *arg, const char *type)
{
    (void)arg, (void)type;
    return 0;
}

Test(core_adopt, a_node_takes_no_room_of_a_type_it_does_not_know)
{
    struct cluster k;
    three_with_rooms(&k, 30, "safe");
    k.config.type_max_players = knows_nothing;
    cluster_node(&k, 100000); /* the first in rank for nearly all */
    k.config.failover = false;
    cluster_kill(&k, 0);
    cluster_run(&k, 4000);
    cr_assert_eq(cluster_running(&k, 1) + cluster_running(&k, 2), 30);
    cluster_end(&k);
}

Test(core_adopt, without_failover_rooms_wait_for_their_own_node)
{
    struct cluster k;
    cluster_init(&k);
    k.config.failover = false;
    for (int i = 0; i < 3; i++)
        cluster_node(&k, 1000);
    rooms(&k, 0, 5, "safe");
    cluster_kill(&k, 0);
    cluster_run(&k, 20000);
    const struct cluster_room *r = cluster_look(&k, "r3");
    cr_assert(!r->deleted && r->gone == 2 && r->migrated == 0, "players elsewhere are told, once each: %d", r->gone);
    cluster_restart(&k, 0);
    cluster_run(&k, 3000);
    cr_assert_eq(cluster_running(&k, 0), 5);
    cr_assert_str_eq(r->reason, "restart");
    cluster_end(&k);
}

Test(core_adopt, ten_thousand_rooms_do_not_stall_a_step)
{
    enum { ROOMS = 10000 };
    struct cluster k;
    cluster_init(&k);
    for (int i = 0; i < 4; i++)
        cluster_node(&k, 2 * ROOMS);
    rooms(&k, 0, ROOMS, "safe");
    k.slowest_us = 0;
    cluster_kill(&k, 0);
    cluster_run(&k, 1000);
    cr_assert_eq(cluster_running(&k, 1) + cluster_running(&k, 2) + cluster_running(&k, 3), ROOMS);
#if !defined(__SANITIZE_ADDRESS__)
    cr_assert_lt(k.slowest_us, 5000, "%ld us", (long)k.slowest_us);
#endif
    cluster_end(&k);
}

Test(core_adopt, no_more_than_a_part_is_restored_at_a_time)
{
    struct cluster k;
    cluster_init(&k);
    for (int i = 0; i < 2; i++)
        cluster_node(&k, 2000);
    rooms(&k, 0, 1000, "safe");
    k.restore = held;
    cluster_kill(&k, 0);
    cluster_run(&k, 3000);
    int claimed = 0;
    for (int i = 0; i < 1000; i++)
        claimed += cluster_look(&k, name(i))->restores;
    cr_assert_eq(claimed, RESTORES_MAX);
    cluster_end(&k);
}
