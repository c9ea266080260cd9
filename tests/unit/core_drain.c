/* A node that is drained: what leaves it, how many at a time, what is left and why, and what it takes meanwhile. */
#include <stdio.h>

#include "core_cluster.h"

TestSuite(core_drain, .timeout = 60);

static const char *name(int i)
{
    static char names[4][16];
    static int at;
    char *s = names[at++ % 4];
    snprintf(s, sizeof(names[0]), "r%d", i);
    return s;
}

static void begin(struct cluster *k, int nodes, int count, const char *type)
{
    cluster_init(k);
    for (int i = 0; i < nodes; i++)
        cluster_node(k, 1000);
    for (int i = 0; i < count; i++)
        cluster_room(k, 0, name(i), type);
    cluster_run(k, 2000);
    cr_assert_eq(cluster_running(k, 0), (unsigned)count);
    k->answers = k->asked = 0;
}

static void drain(struct cluster *k, unsigned node, bool on)
{
    cluster_event(k, node, (struct core_event){.kind = CORE_EV_DRAIN, .on = on});
}

static void shows(struct cluster *k, bool on, unsigned left, unsigned moving, unsigned done, unsigned failed,
                  const char *reason)
{
    struct core_drain d = core_drain_state(k->nodes[0].c);
    cr_assert_eq(d.on, on);
    cr_assert(d.left == left && d.moving == moving && d.moved == done && d.failed == failed,
              "left %u moving %u moved %u failed %u", d.left, d.moving, d.moved, d.failed);
    cr_assert_str_eq(d.reason, reason);
}

static unsigned standing_still(struct cluster *k, int count)
{
    unsigned n = 0;
    for (int i = 0; i < count; i++)
        n += cluster_look(k, name(i))->still != 0;
    return n;
}

static void let_go(struct cluster *k, int count)
{
    k->hold_release = false;
    for (int i = 0; i < count; i++)
        if (cluster_look(k, name(i))->still)
            cluster_saved(k, 0, name(i));
}

Test(core_drain, all_rooms_leave_some_at_a_time)
{
    enum { ROOMS = 200 };
    struct cluster k;
    begin(&k, 3, ROOMS, "safe");
    k.hold_release = true;
    drain(&k, 0, true);
    cluster_run(&k, 2000);
    cr_assert_eq(standing_still(&k, ROOMS), 8);
    shows(&k, true, ROOMS, 8, 0, 0, "");
    cr_assert_eq(k.servers[0].status, SERVER_DRAINING);
    let_go(&k, ROOMS);
    cluster_run(&k, 200);
    cr_assert_eq(k.still_max, 8);
    shows(&k, true, 0, 0, ROOMS, 0, "");
    cr_assert_eq(k.nodes[0].draining, 1);
    for (unsigned i = 1; i < 3; i++)
        cr_assert(cluster_running(&k, i) > ROOMS / 4, "%u", cluster_running(&k, i));
    for (int i = 0; i < ROOMS; i++) {
        const struct cluster_room *r = cluster_look(&k, name(i));
        cr_assert(r->migrated == 1 && r->restores == 1 && r->disposed == 0 && r->info.epoch == 2);
        cr_assert_str_eq(r->reason, "drain");
        cr_assert_str_eq(r->from.s, "a");
        cr_assert(cluster_runs(&k, (unsigned)(r->info.owner.s[0] - 'a'), name(i)));
    }
    cluster_end(&k);
}

Test(core_drain, how_many_at_a_time_is_said_by_the_config)
{
    struct cluster k;
    cluster_init(&k);
    k.config.drain_parallel = 2;
    cluster_node(&k, 100);
    cluster_node(&k, 100);
    for (int i = 0; i < 10; i++)
        cluster_room(&k, 0, name(i), "safe");
    cluster_run(&k, 500);
    drain(&k, 0, true);
    cluster_run(&k, 200);
    cr_assert_eq(k.still_max, 2);
    cr_assert_eq(cluster_running(&k, 1), 10);
    cluster_end(&k);
}

Test(core_drain, a_drained_node_takes_nothing)
{
    struct cluster k;
    begin(&k, 3, 0, "safe");
    for (int i = 0; i < 40; i++)
        cluster_room(&k, 1, name(i), "safe");
    cluster_run(&k, 1500);
    drain(&k, 0, true);
    cluster_room(&k, 0, "new", "duel");
    cr_assert_eq(k.answer.code, ROOM_E_DRAINING);
    cr_assert_neq(core_route(k.nodes[0].c, NULL, "duel").server.s[0], 'a');
    cluster_move(&k, 1, "r0", "a");
    cr_assert_eq(k.answer.code, ROOM_E_DRAINING);
    cluster_kill(&k, 1);
    cluster_run(&k, 500);
    cr_assert_eq(cluster_running(&k, 2), 40, "and nobody waits for it");
    cr_assert(core_may_serve(k.nodes[0].c), "it still serves the players it has");
    cluster_end(&k);
}

Test(core_drain, what_cannot_be_saved_is_left_and_said)
{
    struct cluster k;
    begin(&k, 2, 5, "duel");
    cluster_room(&k, 0, "kept", "snap");
    cluster_room(&k, 0, "game", "game");
    cluster_run(&k, 500);
    drain(&k, 0, true);
    cluster_run(&k, 3000);
    cr_assert(cluster_runs(&k, 1, "kept") && cluster_runs(&k, 1, "game"));
    shows(&k, true, 5, 0, 2, 5, "not_movable");
    struct room_info room = {.id = world_id("r3")};
    cluster_event(&k, 0, (struct core_event){.kind = CORE_EV_ROOM_ENDED, .room = &room, .reason = "empty"});
    cluster_run(&k, 100);
    shows(&k, true, 4, 0, 2, 4, "not_movable");
    cluster_end(&k);
}

Test(core_drain, without_a_target_it_is_tried_again)
{
    struct cluster k;
    begin(&k, 1, 20, "safe");
    drain(&k, 0, true);
    cluster_run(&k, 3000);
    shows(&k, true, 20, 0, 0, 20, "no_target");
    cluster_node(&k, 15);
    cluster_run(&k, 2000);
    shows(&k, true, 5, 0, 15, 5, "full");
    cluster_node(&k, 100);
    cluster_run(&k, 2000);
    shows(&k, true, 0, 0, 20, 0, "full");
    cluster_end(&k);
}

Test(core_drain, a_room_that_fails_is_tried_once_in_a_second)
{
    struct cluster k;
    begin(&k, 2, 3, "safe");
    k.release_code = ROOM_E_IO;
    drain(&k, 0, true);
    cluster_run(&k, 4900);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(cluster_look(&k, name(i))->keeps, 5, "%d", cluster_look(&k, name(i))->keeps);
    shows(&k, true, 3, 0, 0, 3, "io");
    k.release_code = 0;
    cluster_run(&k, 1000);
    shows(&k, true, 0, 0, 3, 0, "io");
    cluster_end(&k);
}

Test(core_drain, undrained_it_keeps_what_has_not_left)
{
    struct cluster k;
    begin(&k, 3, 50, "safe");
    cluster_room(&k, 0, "none", "duel");
    cluster_run(&k, 200);
    k.hold_release = true;
    drain(&k, 0, true);
    cluster_run(&k, 1000);
    drain(&k, 0, false);
    shows(&k, false, 51, 8, 0, 0, "");
    let_go(&k, 50);
    cluster_run(&k, 3000);
    shows(&k, false, 43, 0, 8, 0, "");
    cr_assert_eq(cluster_running(&k, 0), 43);
    cr_assert_eq(k.servers[0].status, SERVER_UP);
    cluster_room(&k, 0, "new", "duel");
    cr_assert_eq(k.answer.code, ROOM_E_OK);
    drain(&k, 0, true);
    cluster_run(&k, 2000);
    shows(&k, true, 2, 0, 42, 2, "not_movable");
    cr_assert_eq(k.nodes[0].draining, 2);
    cluster_end(&k);
}

Test(core_drain, a_stop_releases_what_is_left)
{
    struct cluster k;
    begin(&k, 3, 50, "safe");
    cluster_room(&k, 0, "none", "duel");
    cluster_run(&k, 200);
    k.hold_release = true;
    drain(&k, 0, true);
    cluster_run(&k, 1000);
    k.hold_release = false;
    cluster_stop(&k, 0);
    cluster_run(&k, 1000);
    cr_assert(k.nodes[0].stopped && k.servers[0].status == 0);
    cr_assert_eq(cluster_running(&k, 1) + cluster_running(&k, 2), 50);
    for (int i = 0; i < 50; i++)
        cr_assert(cluster_look(&k, name(i))->migrated == 1 && cluster_look(&k, name(i))->info.epoch == 2);
    cr_assert_eq(cluster_look(&k, "none")->disposed, 1);
    cluster_end(&k);
}

Test(core_drain, a_node_may_be_drained_before_it_is_in_the_registry)
{
    struct world w;
    world_init(&w);
    w.grant_self = false;
    world_start(&w);
    world_step(&w, (struct core_event){.kind = CORE_EV_DRAIN, .on = true});
    world_step(&w, (struct core_event){.kind = CORE_EV_BUS_UP});
    world_listing(&w);
    world_run(&w, 200);
    world_kv(&w, world_take(&w, CORE_FX_GET_SERVER)->token, CORE_KV_NOT_FOUND, 0, NULL, NULL);
    world_run(&w, 200);
    struct core_fx *put = world_take(&w, CORE_FX_PUT_SERVER);
    cr_assert_eq(put->server_entry.status, SERVER_DRAINING);
    cr_assert_eq(world_count(&w, CORE_FX_DRAINING), 0, "nobody can know it yet");
    world_kv(&w, put->token, CORE_KV_OK, ++w.revision, NULL, NULL);
    world_take(&w, CORE_FX_READY);
    world_take(&w, CORE_FX_DRAINING);
    world_end(&w);
}

Test(core_drain, it_is_told_once_it_is_written_and_survives_a_fence)
{
    struct world w;
    world_begin(&w);
    w.grant_self = false;
    world_step(&w, (struct core_event){.kind = CORE_EV_DRAIN, .on = true});
    struct core_fx *put = world_take(&w, CORE_FX_PUT_SERVER);
    cr_assert_eq(put->server_entry.status, SERVER_DRAINING, "written at once");
    world_kv(&w, put->token, CORE_KV_UNKNOWN, 0, NULL, NULL);
    world_run(&w, 500);
    cr_assert_eq(world_count(&w, CORE_FX_DRAINING), 0);
    w.grant_self = true;
    struct server_info me = *core_self(w.c);
    world_kv(&w, world_take(&w, CORE_FX_GET_SERVER)->token, CORE_KV_OK, ++w.revision, &me, NULL);
    world_run(&w, 6000);
    cr_assert_eq(world_count(&w, CORE_FX_DRAINING), 1);
    me.status = SERVER_DOWN;
    world_step(&w, (struct core_event){.kind = CORE_EV_SERVER_ENTRY, .server = &me, .revision = w.revision + 100});
    world_take(&w, CORE_FX_FENCED);
    cr_assert_eq(core_self(w.c)->status, SERVER_DRAINING);
    world_end(&w);
}

Test(core_drain, thousands_of_rooms_that_cannot_leave_do_not_stall_a_step)
{
    struct cluster k;
    begin(&k, 2, 0, "safe");
    k.nodes[0].config.self.capacity = 20000;
    cluster_restart(&k, 0);
    cluster_run(&k, 2000);
    for (int i = 0; i < 10000; i++)
        cluster_room(&k, 0, name(i), i % 2 ? "duel" : "safe");
    cluster_run(&k, 5000);
    cr_assert_eq(cluster_running(&k, 0), 10000);
    k.slowest_us = 0;
    drain(&k, 0, true);
    cluster_run(&k, 6000);
    shows(&k, true, 9000, 0, 1000, 9000, core_drain_state(k.nodes[0].c).reason);
#if !defined(__SANITIZE_ADDRESS__)
    cr_assert_lt(k.slowest_us, 5000, "%ld us", (long)k.slowest_us);
#endif
    cluster_end(&k);
}
