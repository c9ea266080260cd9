/* This node's own entry: claim, heartbeat, fencing, isolation, leaving. */
#include "core_world.h"

TestSuite(core_self, .timeout = 30);

static void to_claim(struct world *w)
{
    world_init(w);
    w->grant_self = false;
    world_start(w);
    world_step(w, (struct core_event){.kind = CORE_EV_BUS_UP});
    world_run(w, 100);
    cr_assert_eq(w->count, 0, "nothing is claimed before the registries are known");
    world_listing(w);
    world_run(w, 50);
}

static void read_entry(struct world *w, const struct server_info *holder, uint64_t revision)
{
    world_kv(w, world_take(w, CORE_FX_GET_SERVER)->token, holder ? CORE_KV_OK : CORE_KV_NOT_FOUND, revision, holder,
             NULL);
}

Test(core_self, a_free_id_is_claimed_and_ready_is_said_once)
{
    struct world w;
    to_claim(&w);
    read_entry(&w, NULL, 0);
    world_run(&w, 50);
    struct core_fx *put = world_take(&w, CORE_FX_PUT_SERVER);
    cr_assert_eq(put->expected, 0);
    cr_assert_eq(put->server_entry.status, SERVER_UP);
    cr_assert_not(core_may_serve(w.c));
    world_kv(&w, put->token, CORE_KV_OK, 1, NULL, NULL);
    cr_assert(core_may_serve(w.c));
    world_take(&w, CORE_FX_READY);
    world_kv(&w, put->token, CORE_KV_OK, 9, NULL, NULL); /* a repeated answer finds nothing */
    cr_assert_eq(w.count, 0);
    world_end(&w);
}

/* Pings the holder every 50 ms for `ms` with one result; true: a claim was sent in this time. */
static bool holder(struct world *w, enum core_ping_result result, int ms)
{
    for (int t = 0; t < ms; t += CORE_TICK_MS) {
        world_run(w, CORE_TICK_MS);
        struct core_fx *ping = world_find(w, CORE_FX_PING);
        if (ping)
            world_pinged(w, ping->token, result);
        if (world_count(w, CORE_FX_PUT_SERVER))
            return true;
    }
    return false;
}

Test(core_self, a_dead_holder_is_replaced_after_detect_ms)
{
    struct world w;
    to_claim(&w);
    struct server_info old = world_server("a", "7AAAAAAAAAAAAAAAAAAAAAAAAA");
    read_entry(&w, &old, 5);
    cr_assert_not(holder(&w, CORE_PING_NO_RESPONDERS, 450));
    cr_assert(holder(&w, CORE_PING_NO_RESPONDERS, 400));
    struct core_fx *put = world_take(&w, CORE_FX_PUT_SERVER);
    cr_assert_eq(put->expected, 5);
    cr_assert_gt(strcmp(put->server_entry.boot, old.boot), 0, "boot %s", put->server_entry.boot);
    world_end(&w);
}

Test(core_self, a_silent_holder_is_replaced_after_hang_ms)
{
    struct world w;
    to_claim(&w);
    struct server_info old = world_server("a", "01AAAAAAAAAAAAAAAAAAAAAAAA");
    read_entry(&w, &old, 5);
    cr_assert_not(holder(&w, CORE_PING_SILENT, 2900));
    cr_assert(holder(&w, CORE_PING_SILENT, 400));
    world_end(&w);
}

Test(core_self, an_entry_that_is_none_is_replaced_unless_somebody_answers)
{
    struct world w;
    to_claim(&w);
    world_kv(&w, world_take(&w, CORE_FX_GET_SERVER)->token, CORE_KV_OK, 5, NULL, NULL);
    cr_assert_not(holder(&w, CORE_PING_NO_RESPONDERS, 450));
    cr_assert(holder(&w, CORE_PING_NO_RESPONDERS, 400));
    cr_assert_eq(world_take(&w, CORE_FX_PUT_SERVER)->expected, 5);
    world_end(&w);
}

Test(core_self, a_live_holder_means_refused)
{
    struct world w;
    to_claim(&w);
    struct server_info old = world_server("a", "01AAAAAAAAAAAAAAAAAAAAAAAA");
    read_entry(&w, &old, 5);
    world_run(&w, 50);
    world_pinged(&w, world_take(&w, CORE_FX_PING)->token, CORE_PING_OK);
    world_take(&w, CORE_FX_REFUSED);
    world_run(&w, 5000);
    cr_assert_eq(w.count, 0, "a refused node does nothing more");
    world_end(&w);
}

Test(core_self, a_holder_declared_down_needs_no_ping)
{
    struct world w;
    to_claim(&w);
    struct server_info old = world_server("a", "01AAAAAAAAAAAAAAAAAAAAAAAA");
    old.status = SERVER_DOWN;
    read_entry(&w, &old, 5);
    world_run(&w, 50);
    cr_assert_eq(world_take(&w, CORE_FX_PUT_SERVER)->expected, 5);
    world_end(&w);
}

Test(core_self, an_unknown_claim_is_settled_by_reading_back)
{
    struct world w;
    to_claim(&w);
    read_entry(&w, NULL, 0);
    world_run(&w, 50);
    struct core_fx put = *world_take(&w, CORE_FX_PUT_SERVER);
    world_kv(&w, put.token, CORE_KV_UNKNOWN, 0, NULL, NULL);
    world_run(&w, 400);
    cr_assert_eq(world_count(&w, CORE_FX_PUT_SERVER), 0, "written again before it was read");
    read_entry(&w, &put.server_entry, 3);
    world_take(&w, CORE_FX_READY);
    cr_assert(core_may_serve(w.c));
    world_end(&w);
}

Test(core_self, a_boot_from_the_far_future_does_not_hold_up_the_loop)
{
    static const char *const boots[] = {"7ZZZZZZZZZZZZZZZZZZZZZZZZY", "7ZZZZZZZZZAAAAAAAAAAAAAAAA", "7AAAAAAAAAZZZZZZZZZZZZZZZZ",
                                        "ZZZZZZZZZZZZZZZZZZZZZZZZZZ", "a", "7", "--------------------------"};
    for (size_t i = 0; i < sizeof(boots) / sizeof(*boots); i++) {
        struct world w;
        to_claim(&w);
        struct server_info old = world_server("a", boots[i]);
        old.status = SERVER_DOWN;
        read_entry(&w, &old, 5);
        world_run(&w, 50);
        world_take(&w, CORE_FX_PUT_SERVER);
        world_end(&w);
    }
}

static void fenced_then_claims(struct world *w, const char *old_boot, uint64_t holder_revision)
{
    world_take(w, CORE_FX_FENCED);
    cr_assert_str_eq(world_take(w, CORE_FX_ROOM_DROP)->room.s, "r1");
    cr_assert_not(core_may_serve(w->c));
    w->grant_self = false;
    world_run(w, 50);
    struct server_info entry = world_server("a", old_boot);
    entry.status = SERVER_DOWN;
    read_entry(w, &entry, holder_revision);
    world_run(w, 50);
    struct core_fx *put = world_take(w, CORE_FX_PUT_SERVER);
    cr_assert_eq(put->expected, holder_revision);
    cr_assert_gt(strcmp(put->server_entry.boot, old_boot), 0);
    world_kv(w, put->token, CORE_KV_OK, holder_revision + 1, NULL, NULL);
    world_take(w, CORE_FX_READY);
    cr_assert(core_may_serve(w->c));
}

Test(core_self, a_heartbeat_conflict_means_fenced_and_a_higher_boot)
{
    struct world w;
    world_begin(&w);
    world_running(&w, "r1");
    char boot[ULID_SIZE];
    memcpy(boot, core_self(w.c)->boot, sizeof(boot));
    w.grant_self = false;
    world_run(&w, 5000);
    world_kv(&w, world_take(&w, CORE_FX_PUT_SERVER)->token, CORE_KV_CONFLICT, 0, NULL, NULL);
    world_run(&w, 50);
    struct server_info down = world_server("a", boot);
    down.status = SERVER_DOWN;
    read_entry(&w, &down, 50);
    fenced_then_claims(&w, boot, 50);
    world_end(&w);
}

Test(core_self, down_seen_by_watch_means_fenced_and_a_late_answer_is_ignored)
{
    struct world w;
    world_begin(&w);
    world_running(&w, "r1");
    char boot[ULID_SIZE];
    memcpy(boot, core_self(w.c)->boot, sizeof(boot));
    w.grant_self = false;
    world_run(&w, 5000);
    uint64_t late = world_take(&w, CORE_FX_PUT_SERVER)->token; /* a heartbeat is under way */
    struct server_info down = world_server("a", boot);
    down.status = SERVER_DOWN;
    world_server_entry(&w, down);
    world_run(&w, 300);
    cr_assert_eq(world_count(&w, CORE_FX_GET_SERVER), 0, "one registry operation at a time");
    world_kv(&w, late, CORE_KV_OK, 99, NULL, NULL);
    cr_assert_not(core_may_serve(w.c), "the old boot's heartbeat is not the new boot's claim");
    cr_assert_eq(world_count(&w, CORE_FX_READY), 0);
    fenced_then_claims(&w, boot, 60);
    world_end(&w);
}

Test(core_self, unreached_for_lease_ms_means_isolated_until_the_entry_is_read)
{
    struct world w;
    world_begin(&w);
    world_server_entry(&w, world_server("b", "01B"));
    w.ping = CORE_PING_SILENT;
    w.grant_self = false;
    world_step(&w, (struct core_event){.kind = CORE_EV_PINGED});
    world_run(&w, 1900);
    cr_assert_not(core_is_isolated(w.c));
    world_run(&w, 200);
    cr_assert(core_is_isolated(w.c));
    world_take(&w, CORE_FX_ISOLATED);
    cr_assert_not(core_may_serve(w.c));
    struct core_fx *get = world_take(&w, CORE_FX_GET_SERVER);
    cr_assert_eq(world_count(&w, CORE_FX_PUT_SERVER), 0);
    struct server_info me = *core_self(w.c);
    world_kv(&w, get->token, CORE_KV_OK, w.c->self.revision, &me, NULL);
    world_take(&w, CORE_FX_REACHED);
    cr_assert(core_may_serve(w.c));
    world_end(&w);
}

Test(core_self, reached_nodes_and_single_nodes_are_not_isolated)
{
    struct world w;
    world_begin(&w);
    world_run(&w, 10000);
    cr_assert_not(core_is_isolated(w.c), "alone");
    world_server_entry(&w, world_server("b", "01B"));
    world_run(&w, 10000);
    cr_assert_not(core_is_isolated(w.c), "b answers our pings");
    world_step(&w, (struct core_event){.kind = CORE_EV_BUS_DOWN});
    world_run(&w, 2100);
    cr_assert(core_is_isolated(w.c), "bus down");
    world_step(&w, (struct core_event){.kind = CORE_EV_BUS_UP});
    world_run(&w, 100);
    cr_assert_not(core_is_isolated(w.c), "the entry was read");
    world_end(&w);
}

Test(core_self, a_loop_that_stood_still_isolates_before_anything_else_and_blames_nobody)
{
    struct world w;
    world_begin(&w);
    world_server_entry(&w, world_server("b", "01B"));
    w.ping = CORE_PING_NO_RESPONDERS;
    world_run(&w, 400);
    w.now = mono_add_ms(w.now, 2500);
    w.hold_pings = true;
    w.grant_self = false;
    world_clear(&w);
    world_step(&w, (struct core_event){.kind = CORE_EV_TICK});
    cr_assert_eq(w.fx[0].kind, CORE_FX_ISOLATED);
    cr_assert_not(view_server(core_view(w.c), "b")->suspect);
    world_take(&w, CORE_FX_GET_SERVER); /* at once, not with the next heartbeat */
    world_end(&w);
}

Test(core_self, isolation_with_a_heartbeat_under_way_ends_as_soon_as_any_other)
{
    struct world w;
    world_begin(&w);
    w.grant_self = false;
    world_run(&w, 5100);
    struct core_fx put = *world_take(&w, CORE_FX_PUT_SERVER);
    w.now = mono_add_ms(w.now, 2500);
    world_step(&w, (struct core_event){.kind = CORE_EV_TICK});
    cr_assert(core_is_isolated(w.c));
    world_kv(&w, put.token, CORE_KV_OK, put.expected + 1, NULL, NULL);
    world_run(&w, 100);
    world_take(&w, CORE_FX_GET_SERVER);
    world_end(&w);
}

Test(core_self, a_single_node_that_stood_still_isolates_too)
{
    struct world w;
    world_begin(&w);
    w.grant_self = false;
    w.now = mono_add_ms(w.now, 2500);
    world_step(&w, (struct core_event){.kind = CORE_EV_TICK});
    cr_assert(core_is_isolated(w.c));
    world_end(&w);
}

Test(core_self, leaving_deletes_the_entry_as_it_is_now)
{
    struct world w;
    world_begin(&w);
    w.grant_self = false;
    world_run(&w, 5000);
    uint64_t beat = world_take(&w, CORE_FX_PUT_SERVER)->token;
    world_step(&w, (struct core_event){.kind = CORE_EV_STOP});
    world_kv(&w, beat, CORE_KV_OK, 77, NULL, NULL);
    world_run(&w, 50);
    struct core_fx *del = world_take(&w, CORE_FX_DEL_SERVER);
    cr_assert_eq(del->expected, 77, "%lu", (unsigned long)del->expected);
    world_kv(&w, del->token, CORE_KV_OK, 78, NULL, NULL);
    cr_assert_str_eq(world_take(&w, CORE_FX_OFFLINE)->reason, "stopped");
    world_take(&w, CORE_FX_STOPPED);
    world_end(&w);
}

Test(core_self, leaving_ends_by_its_deadline_when_the_registry_is_silent)
{
    struct world w;
    world_begin(&w);
    world_running(&w, "r1");
    world_step(&w, (struct core_event){.kind = CORE_EV_STOP});
    cr_assert_str_eq(world_take(&w, CORE_FX_ROOM_DROP)->room.s, "r1");
    world_run(&w, 4100);
    world_take(&w, CORE_FX_STOPPED);
    cr_assert_eq(world_count(&w, CORE_FX_OFFLINE), 0);
    world_end(&w);
}
