/* Rooms given up when a node stops, rooms that only a disk knows, and rooms in doubt. */
#include <stdio.h>

#include "core_cluster.h"

TestSuite(core_release, .timeout = 60);

static void begin(struct cluster *k, int nodes)
{
    cluster_init(k);
    for (int i = 0; i < nodes; i++)
        cluster_node(k, 100);
}

static void stop_and_end(struct cluster *k, unsigned node)
{
    cluster_stop(k, node);
    for (int ms = 0; !k->nodes[node].stopped && ms < 10000; ms += CORE_TICK_MS)
        cluster_run(k, CORE_TICK_MS);
    cluster_crash(k, node);
}

Test(core_release, rooms_of_a_node_that_stops_go_to_the_others)
{
    struct cluster k;
    begin(&k, 3);
    for (int i = 0; i < 30; i++)
        cluster_room(&k, 0, (char[]){'r', (char)('A' + i), 0}, i % 3 ? "safe" : "snap");
    cluster_room(&k, 0, "duel", "duel");
    cluster_run(&k, 500);
    stop_and_end(&k, 0);
    cr_assert_eq(k.servers[0].status, 0, "its entry is gone");
    cr_assert_eq(cluster_running(&k, 1) + cluster_running(&k, 2), 30, "and by then its rooms run elsewhere");
    for (int i = 0; i < 30; i++) {
        const struct cluster_room *r = cluster_look(&k, (char[]){'r', (char)('A' + i), 0});
        cr_assert(r->migrated == 1 && r->disposed == 0 && r->drops == 0 && r->info.epoch == 2);
        cr_assert_str_eq(r->reason, "released");
        cr_assert_str_eq(r->from.s, "a");
    }
    cr_assert(cluster_look(&k, "duel")->deleted);
    cr_assert_eq(cluster_look(&k, "duel")->disposed, 1);
    cluster_end(&k);
}

Test(core_release, an_unknown_release_is_settled)
{
    for (enum cluster_fault fault = CLUSTER_APPLIED; fault <= CLUSTER_LATE; fault++) {
        struct cluster k;
        begin(&k, 2);
        cluster_room(&k, 0, "r", "safe");
        cluster_run(&k, 500);
        k.fault = fault;
        stop_and_end(&k, 0);
        cluster_run(&k, 500);
        cr_assert(cluster_runs(&k, 1, "r"), "fault %d", (int)fault);
        cr_assert_eq(cluster_look(&k, "r")->migrated, 1);
        cr_assert_eq(cluster_look(&k, "r")->drops, 0);
        cr_assert_eq(k.servers[0].status, 0);
        cluster_end(&k);
    }
}

Test(core_release, nothing_is_pending_before_the_room_host_is_done)
{
    struct cluster k;
    begin(&k, 2);
    cluster_room(&k, 0, "r", "safe");
    cluster_run(&k, 500);
    k.hold_release = true;
    cluster_stop(&k, 0);
    cluster_run(&k, 2000);
    struct cluster_room *r = cluster_look(&k, "r");
    cr_assert(strcmp(r->info.owner.s, "a") == 0 && r->info.state == ROOM_RUNNING);
    cr_assert_not(k.nodes[0].stopped);
    struct room_info room = {.id = world_id("r")};
    cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_RELEASED, .room = &room});
    cluster_run(&k, 200);
    cr_assert(cluster_runs(&k, 1, "r"));
    cr_assert(k.nodes[0].stopped);
    cluster_end(&k);
}

Test(core_release, a_stop_does_not_wait_for_ever)
{
    struct cluster k;
    begin(&k, 2);
    cluster_room(&k, 0, "r", "safe");
    cluster_run(&k, 500);
    k.hold_release = true;
    cluster_stop(&k, 0);
    cluster_run(&k, 4200);
    cr_assert(k.nodes[0].stopped);
    cr_assert_eq(k.servers[0].status, SERVER_UP, "others find it dead, and take the room over as from the dead");
    cluster_kill(&k, 0);
    cluster_run(&k, 500);
    cr_assert(cluster_runs(&k, 1, "r"));
    cluster_end(&k);
}

Test(core_release, without_nats_rooms_are_saved_and_that_is_all)
{
    struct cluster k;
    begin(&k, 1);
    cluster_room(&k, 0, "r", "safe");
    cluster_run(&k, 500);
    k.hold_release = true;
    cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_BUS_DOWN});
    cluster_stop(&k, 0);
    cluster_run(&k, 1000);
    cr_assert_not(k.nodes[0].stopped);
    struct room_info room = {.id = world_id("r")};
    cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_RELEASED, .room = &room});
    cluster_run(&k, 100);
    cr_assert(k.nodes[0].stopped);
    cluster_end(&k);
}

static int held(struct cluster *k, unsigned node, const struct core_fx *fx)
{
    (void)k, (void)node, (void)fx;
    return CLUSTER_HOLD;
}

Test(core_release, a_restore_that_a_stop_interrupts_is_passed_on_and_not_counted)
{
    struct cluster k;
    begin(&k, 3);
    cluster_room(&k, 0, "r", "safe");
    cluster_run(&k, 500);
    k.restore = held;
    cluster_kill(&k, 0);
    cluster_run(&k, 500);
    struct cluster_room *r = cluster_look(&k, "r");
    unsigned owner = (unsigned)(r->info.owner.s[0] - 'a');
    cr_assert_eq(r->info.restores, 1);
    k.restore = NULL;
    stop_and_end(&k, owner);
    cr_assert(cluster_runs(&k, owner == 1 ? 2 : 1, "r"));
    cr_assert_eq(r->info.restores, 1);
    cr_assert_eq(r->migrated, 1);
    cluster_end(&k);
}

Test(core_release, a_single_node_takes_its_rooms_back)
{
    for (int failover = 0; failover < 2; failover++) {
        struct cluster k;
        cluster_init(&k);
        k.config.failover = failover;
        cluster_node(&k, 100);
        cluster_room(&k, 0, "r", "safe");
        cluster_room(&k, 0, "tied", "stay");
        cluster_run(&k, 500);
        stop_and_end(&k, 0);
        cr_assert_eq(cluster_look(&k, "r")->info.state, ROOM_PENDING);
        cluster_restart(&k, 0);
        cluster_run(&k, 500);
        cr_assert(cluster_runs(&k, 0, "r") && cluster_runs(&k, 0, "tied"));
        cr_assert_str_eq(cluster_look(&k, "r")->reason, "restart");
        cluster_end(&k);
    }
}

static void hold(struct cluster *k, unsigned node, const char *id, uint64_t epoch)
{
    struct room_info info = {.id = world_id(id), .type = world_id("safe"), .epoch = epoch, .max_players = 2,
                             .durability = DURABILITY_JOURNAL, .created = {1600000000000}, .is_private = true};
    cluster_event(k, node, (struct core_event){.kind = CORE_EV_HELD, .room = &info});
}

Test(core_release, a_room_that_only_a_disk_knows_is_recovered_once)
{
    struct cluster k;
    begin(&k, 3);
    cluster_room(&k, 0, "listed", "safe");
    for (int i = 0; i < 20; i++)
        hold(&k, i % 3 == 0 ? 2 : 1, (char[]){'h', (char)('A' + i), 0}, 7);
    hold(&k, 1, "listed", 9);
    cluster_run(&k, 3000);
    cr_assert_null(cluster_look(&k, "hA"), "it may still turn up");
    cluster_run(&k, 5000);
    for (int i = 0; i < 20; i++) {
        const char *id = (char[]){'h', (char)('A' + i), 0};
        const struct cluster_room *r = cluster_look(&k, id);
        cr_assert(r && r->migrated == 1 && r->info.epoch == 8 && r->info.is_private, "%s", id);
        cr_assert_str_eq(r->reason, "recovery");
        cr_assert_eq(r->info.created.ms, 1600000000000);
        cr_assert(cluster_runs(&k, i % 3 == 0 ? 2 : 1, id), "where its state is");
    }
    cr_assert_eq(cluster_look(&k, "listed")->info.epoch, 1);
    cr_assert_eq(cluster_look(&k, "listed")->drops, 0);
    cluster_end(&k);
}

Test(core_release, two_disks_with_the_same_room_make_one_of_it)
{
    for (int unknown = 0; unknown < 2; unknown++) {
        struct cluster k;
        begin(&k, 2);
        hold(&k, 0, "h", 7);
        hold(&k, 1, "h", 7);
        cluster_run(&k, 2900);
        k.fault = unknown ? CLUSTER_APPLIED : CLUSTER_FINE;
        cluster_run(&k, 8000);
        cr_assert_eq(cluster_look(&k, "h")->migrated, 1);
        cr_assert_eq(cluster_running(&k, 0) + cluster_running(&k, 1), 1);
        cluster_end(&k);
    }
}

Test(core_release, a_room_that_has_ended_is_not_recovered)
{
    struct cluster k;
    begin(&k, 2);
    cluster_room(&k, 0, "r", "safe");
    cluster_run(&k, 200);
    struct room_info room = {.id = world_id("r")};
    cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_ROOM_ENDED, .room = &room, .reason = "won"});
    cluster_run(&k, 200);
    hold(&k, 1, "r", 1);
    cluster_run(&k, 8000);
    cr_assert(cluster_look(&k, "r")->deleted);
    cluster_end(&k);
}

Test(core_release, a_doubt_is_settled_by_the_leader)
{
    for (int foreign = 0; foreign < 2; foreign++) {
        struct world w;
        world_begin(&w);
        world_running(&w, "r");
        struct room_info room = {.id = world_id("r")}, entry = world_room("r", "a", core_self(w.c)->boot);
        world_step(&w, (struct core_event){.kind = CORE_EV_DOUBT, .room = &room});
        entry.epoch += (uint64_t)foreign;
        world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, CORE_KV_OK, w.revision + (uint64_t)foreign, NULL, &entry);
        cr_assert_eq(world_count(&w, CORE_FX_ROOM_DROP), (size_t)foreign);
        world_run(&w, 1000);
        cr_assert_eq(world_count(&w, CORE_FX_PUT_ROOM), 0, "nothing is to be written");
        world_end(&w);
    }
}

Test(core_release, a_doubt_during_a_write_is_settled_after_it)
{
    struct world w;
    world_begin(&w);
    world_running(&w, "r");
    struct room_info room = world_room("r", "a", ""), entry = world_room("r", "b", "01B");
    room.players = 1;
    world_step(&w, (struct core_event){.kind = CORE_EV_ROOM_CHANGED, .room = &room});
    world_run(&w, 150);
    struct core_fx put = *world_take(&w, CORE_FX_PUT_ROOM);
    world_step(&w, (struct core_event){.kind = CORE_EV_DOUBT, .room = &room});
    world_kv(&w, put.token, CORE_KV_OK, ++w.revision, NULL, NULL);
    world_run(&w, 150);
    entry.epoch = 2;
    world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, CORE_KV_OK, ++w.revision, NULL, &entry);
    world_take(&w, CORE_FX_ROOM_DROP);
    world_end(&w);
}
