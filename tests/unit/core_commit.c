/* The write that gives a room away, and what may come between it and the room host: one core, told everything by the test. */
#include "core_world.h"

TestSuite(core_commit, .timeout = 60);

enum { MOVE_MS = 10000 }; /* the default of migration_timeout_ms */

static bool all_movable(void *arg, const char *type)
{
    (void)arg, (void)type;
    return true;
}

/* One core, whose room r can be moved to `b`. */
static void world_with_room(struct world *w)
{
    world_init(w);
    w->config.type_movable = all_movable;
    world_start(w);
    world_join(w);
    world_server_entry(w, world_server("b", "01B"));
    world_running(w, "r");
}

/* `b` agrees, and the room host has done its part. */
static void world_saved(struct world *w)
{
    struct room_info room = {.id = world_id("r")};
    world_step(w, (struct core_event){.kind = CORE_EV_MOVE, .req = 7, .room = &room});
    struct core_fx *ask = world_take_call(w, CORE_CALL_ADOPT);
    cr_assert(ask->call.epoch == 2 && !ask->call.commit && strcmp(ask->call.server.s, "a") == 0);
    world_answer(w, ask->token, (struct core_answer){.boot = "01B"});
    uint64_t token = world_take(w, CORE_FX_ROOM_RELEASE)->token;
    world_step(w, (struct core_event){.kind = CORE_EV_RELEASED, .room = &room, .token = token, .revision = 7});
}

Test(core_commit, the_entry_names_the_snapshot_it_was_given_away_with_until_it_runs)
{
    struct world w;
    world_with_room(&w);
    world_saved(&w);
    struct core_fx *put = world_take(&w, CORE_FX_PUT_ROOM);
    cr_assert(put->room_entry.epoch == 2 && put->room_entry.saved_epoch == 1 && put->room_entry.saved_version == 7);
    world_end(&w);

    world_init(&w);
    world_start(&w);
    world_join(&w);
    world_server_entry(&w, world_server("b", "01B"));
    struct room_info given = world_room("r", "a", core_self(w.c)->boot);
    given.durability = DURABILITY_SNAPSHOT;
    given.state = ROOM_STARTING;
    given.epoch = 2;
    given.saved_epoch = 1;
    given.saved_version = 7;
    world_step(&w, (struct core_event){.kind = CORE_EV_ROOM_ENTRY, .room = &given, .revision = ++w.revision});
    world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, CORE_KV_OK, w.revision, NULL, &given);
    struct core_fx *restore = world_take(&w, CORE_FX_ROOM_RESTORE);
    cr_assert(restore->room_entry.saved_epoch == 1 && restore->room_entry.saved_version == 7);
    world_started(&w, "r", ROOM_E_OK);
    put = world_take(&w, CORE_FX_PUT_ROOM);
    cr_assert(put->room_entry.state == ROOM_RUNNING && put->room_entry.saved_epoch == 0 && put->room_entry.saved_version == 0);
    world_end(&w);
}

Test(core_commit, the_commit_waits_for_a_write_under_way)
{
    for (enum core_kv_result result = CORE_KV_OK; result <= CORE_KV_UNKNOWN; result++) {
        struct world w;
        world_with_room(&w);
        struct room_info now = world_room("r", "a", "");
        now.players = 1;
        world_step(&w, (struct core_event){.kind = CORE_EV_ROOM_CHANGED, .room = &now});
        world_run(&w, 150);
        uint64_t counts = world_take(&w, CORE_FX_PUT_ROOM)->token;
        world_saved(&w);
        world_run(&w, 100);
        cr_assert_eq(world_count(&w, CORE_FX_PUT_ROOM), 0, "one operation at a time");
        uint64_t before = w.revision++;
        world_kv(&w, counts, result, result ? 0 : w.revision, NULL, NULL);
        world_run(&w, 300);
        struct core_fx *get = world_find(&w, CORE_FX_GET_ROOM);
        cr_assert_eq(get != NULL, result != CORE_KV_OK);
        struct room_info mine = world_room("r", "a", core_self(w.c)->boot);
        if (get)
            world_kv(&w, get->token, CORE_KV_OK, before, NULL, &mine);
        world_run(&w, 100);
        struct core_fx *put = world_take(&w, CORE_FX_PUT_ROOM);
        cr_assert(strcmp(put->room_entry.owner.s, "b") == 0 && strcmp(put->room_entry.boot, "01B") == 0);
        cr_assert_eq(put->expected, result ? before : w.revision);
        cr_assert_eq(put->room_entry.players, 1, "the last counts go with it");
        world_end(&w);
    }
}

Test(core_commit, a_commit_that_cannot_be_sent_in_time_is_not_sent)
{
    struct world w;
    world_with_room(&w);
    world_step(&w, (struct core_event){.kind = CORE_EV_BUS_DOWN});
    world_saved(&w);
    world_run(&w, MOVE_MS + 100);
    world_take(&w, CORE_FX_ROOM_KEEP);
    cr_assert_eq(world_take(&w, CORE_FX_CALL_REPLY)->answer.code, ROOM_E_TIMEOUT);
    world_step(&w, (struct core_event){.kind = CORE_EV_BUS_UP});
    world_run(&w, 2000);
    struct core_fx *put = world_find(&w, CORE_FX_PUT_ROOM);
    cr_assert(!put || put->room_entry.epoch == 1);
    world_end(&w);
}

static void forget_effects(struct world *w, bool forget)
{
    static size_t cap;
    cap = forget ? w->c->fx.cap : cap;
    w->c->fx.cap = forget ? 0 : cap; /* as if the list of effects had to grow */
    w->memory.fail_after = forget ? 0 : -1;
}

/* The room host must hear of it, or the room would stand still for ever; and nothing is committed in between. */
Test(core_commit, without_memory_it_is_kept_a_little_later)
{
    struct world w;
    world_with_room(&w);
    struct room_info now = world_room("r", "a", "");
    now.players = 1;
    world_step(&w, (struct core_event){.kind = CORE_EV_ROOM_CHANGED, .room = &now});
    world_run(&w, 150);
    uint64_t counts = world_take(&w, CORE_FX_PUT_ROOM)->token;
    world_saved(&w); /* the commit waits for that write */
    world_run(&w, MOVE_MS - 100);
    forget_effects(&w, true);
    world_run(&w, 200);
    cr_assert_eq(world_count(&w, CORE_FX_ROOM_KEEP), 0);
    cr_assert_eq(core_route(w.c, "r", NULL).kind, CORE_ROUTE_UNAVAILABLE);
    forget_effects(&w, false);
    world_kv(&w, counts, CORE_KV_OK, ++w.revision, NULL, NULL);
    world_run(&w, 1000);
    world_take(&w, CORE_FX_ROOM_KEEP);
    cr_assert_eq(world_take(&w, CORE_FX_CALL_REPLY)->answer.code, ROOM_E_TIMEOUT);
    struct core_fx *put = world_find(&w, CORE_FX_PUT_ROOM);
    cr_assert(!put || put->room_entry.epoch == 1);
    world_end(&w);
}
