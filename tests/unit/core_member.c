/* Watching others: when a node is declared down, by whom, and that it is said once. */
#include "core_world.h"

TestSuite(core_member, .timeout = 30);

static void two(struct world *w)
{
    world_begin(w);
    world_server_entry(w, world_server("b", "01B"));
    world_run(w, 500);
    world_clear(w);
}

/* b fails until this node reads its entry; answers with the entry and returns the verdict's write. */
static struct core_fx verdict(struct world *w)
{
    w->ping = CORE_PING_NO_RESPONDERS;
    world_run(w, 1000);
    struct server_info b = world_server("b", "01B");
    world_kv(w, world_take(w, CORE_FX_GET_SERVER)->token, CORE_KV_OK, 40, &b, NULL);
    struct core_fx put = *world_take(w, CORE_FX_PUT_SERVER);
    cr_assert_eq(put.expected, 40);
    cr_assert_eq(put.server_entry.status, SERVER_DOWN);
    cr_assert_str_eq(put.server_entry.down_by, core_self(w->c)->boot);
    return put;
}

Test(core_member, a_short_failure_changes_nothing)
{
    struct world w;
    two(&w);
    w.ping = CORE_PING_NO_RESPONDERS;
    world_run(&w, 450);
    w.ping = CORE_PING_OK;
    world_run(&w, 2000);
    cr_assert_eq(w.count, 0);
    cr_assert_not(view_server(core_view(w.c), "b")->suspect);
    world_end(&w);
}

Test(core_member, silence_must_last_hang_ms)
{
    struct world w;
    two(&w);
    w.config.lease_ms = 60000;
    w.c->config.lease_ms = 60000;
    w.ping = CORE_PING_SILENT;
    world_run(&w, 2900);
    cr_assert_eq(w.count, 0);
    world_run(&w, 500);
    world_take(&w, CORE_FX_GET_SERVER);
    world_end(&w);
}

Test(core_member, a_won_verdict_is_published_once)
{
    struct world w;
    two(&w);
    struct core_fx put = verdict(&w);
    world_kv(&w, put.token, CORE_KV_OK, 41, NULL, NULL);
    cr_assert_str_eq(world_take(&w, CORE_FX_OFFLINE)->server_entry.id.s, "b");
    w.revision = 40;
    world_server_entry(&w, put.server_entry);
    world_run(&w, 3000);
    cr_assert_eq(world_count(&w, CORE_FX_OFFLINE), 0);
    world_end(&w);
}

Test(core_member, a_lost_verdict_is_not_published)
{
    struct world w;
    two(&w);
    struct core_fx put = verdict(&w);
    world_kv(&w, put.token, CORE_KV_CONFLICT, 0, NULL, NULL);
    put.server_entry.down_by[0] = 'x';
    w.revision = 40;
    world_server_entry(&w, put.server_entry);
    world_run(&w, 3000);
    cr_assert_eq(world_count(&w, CORE_FX_OFFLINE), 0);
    world_end(&w);
}

Test(core_member, an_unknown_verdict_is_settled_by_reading_or_by_the_watch)
{
    for (int watched = 0; watched < 2; watched++) {
        struct world w;
        two(&w);
        struct core_fx put = verdict(&w);
        world_kv(&w, put.token, CORE_KV_UNKNOWN, 0, NULL, NULL);
        uint64_t read = world_take(&w, CORE_FX_GET_SERVER)->token;
        if (watched) {
            world_kv(&w, read, CORE_KV_UNKNOWN, 0, NULL, NULL);
            w.revision = 40;
            world_server_entry(&w, put.server_entry);
        } else {
            world_kv(&w, read, CORE_KV_OK, 41, &put.server_entry, NULL);
        }
        world_run(&w, 3000);
        cr_assert_eq(world_count(&w, CORE_FX_OFFLINE), 1, "watched %d", watched);
        world_end(&w);
    }
}

Test(core_member, other_watchers_are_asked_first_and_one_that_reaches_it_ends_the_case)
{
    for (int reached = 0; reached < 2; reached++) {
        struct world w;
        two(&w);
        world_server_entry(&w, world_server("c", "01C"));
        world_run(&w, 300);
        w.hold_pings = true;
        for (int t = 0; t < 1000 && !world_count(&w, CORE_FX_CALL); t += CORE_TICK_MS) {
            world_run(&w, CORE_TICK_MS);
            for (struct core_fx *p; (p = world_find(&w, CORE_FX_PING));)
                world_pinged(&w, p->token, p->server.s[0] == 'b' ? CORE_PING_NO_RESPONDERS : CORE_PING_OK);
        }
        struct core_fx *ask = world_take_call(&w, CORE_CALL_PROBE);
        cr_assert_str_eq(ask->server.s, "c");
        cr_assert_str_eq(ask->call.server.s, "b");
        world_answer(&w, ask->token, (struct core_answer){.code = reached ? ROOM_E_OK : ROOM_E_NO_RESPONDERS});
        cr_assert_eq(world_count(&w, CORE_FX_GET_SERVER), reached ? 0 : 1);
        world_end(&w);
    }
}

Test(core_member, a_probe_for_another_watcher_is_answered_to_its_request)
{
    struct world w;
    world_begin(&w);
    w.hold_pings = true;
    struct core_call call = {.kind = CORE_CALL_PROBE, .server = world_id("z")};
    for (uint64_t req = 1; req < 3; req++) {
        world_step(&w, (struct core_event){.kind = CORE_EV_CALL, .req = req << 40, .call = &call});
        world_pinged(&w, world_take(&w, CORE_FX_PING)->token, req == 1 ? CORE_PING_OK : CORE_PING_SILENT);
        struct core_fx *reply = world_take(&w, CORE_FX_CALL_REPLY);
        cr_assert_eq(reply->req, req << 40);
        cr_assert_eq(reply->answer.code, req == 1 ? ROOM_E_OK : ROOM_E_NO_RESPONDERS);
    }
    world_step(&w, (struct core_event){.kind = CORE_EV_CALL, .req = 9, .call = &call});
    world_end(&w); /* one is under way */
}

Test(core_member, who_left_the_registry_is_forgotten)
{
    struct world w;
    two(&w);
    cr_assert_eq(w.c->peers.count, 1);
    w.hold_pings = true; /* one under way must find its record again */
    world_run(&w, 500);
    struct server_info gone = {.id = world_id("b")};
    world_step(&w, (struct core_event){.kind = CORE_EV_SERVER_ENTRY, .server = &gone, .revision = 99});
    world_run(&w, 500);
    cr_assert_eq(w.c->peers.count, 1);
    world_pinged(&w, world_take(&w, CORE_FX_PING)->token, CORE_PING_OK);
    world_run(&w, 500);
    cr_assert_eq(w.c->peers.count, 0);
    world_end(&w);
}
