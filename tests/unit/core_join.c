/* A player's way into a room, and the allocator's counting. */
#include "core_world.h"

TestSuite(core_join, .timeout = 30);

Test(core_join, a_hundred_requests_for_two_seats_make_fifty_rooms)
{
    struct world w;
    world_begin(&w);
    for (uint64_t i = 1; i <= 100; i++)
        world_want(&w, i, CORE_JOIN_OR_CREATE, "", "duel");
    cr_assert_eq(world_count(&w, CORE_FX_CALL), 50);
    struct id asked[50];
    for (int i = 0; i < 50; i++) {
        struct core_fx *make = world_take_call(&w, CORE_CALL_CREATE);
        world_answer(&w, make->token, (struct core_answer){.room = make->call.room, .type = make->call.type,
                                          .server = world_id("a"), .epoch = 1, .seats = 1, .seats_version = 1,
                                          .max_players = 2});
    }
    for (int i = 0; i < 50; i++) {
        struct core_fx *seat = world_take_call(&w, CORE_CALL_RESERVE);
        asked[i] = seat->call.room;
        for (int k = 0; k < i; k++)
            cr_assert_str_neq(asked[k].s, asked[i].s, "a seat in flight is not asked for twice");
        world_answer(&w, seat->token, (struct core_answer){.room = seat->call.room, .type = world_id("duel"),
                                          .epoch = 1, .seats = 2, .seats_version = 2, .max_players = 2});
    }
    cr_assert_eq(world_count(&w, CORE_FX_JOIN_RESULT), 100);
    cr_assert_eq(world_count(&w, CORE_FX_CALL), 0);
    world_end(&w);
}

Test(core_join, a_full_room_moves_the_request_on)
{
    struct world w;
    world_begin(&w);
    world_server_entry(&w, world_server("b", "01B"));
    world_room_entry(&w, world_room("r", "b", "01B"));
    struct core_call call = {.kind = CORE_CALL_ALLOCATE, .type = world_id("duel")};
    world_step(&w, (struct core_event){.kind = CORE_EV_CALL, .req = 4, .call = &call});
    struct core_fx *seat = world_take_call(&w, CORE_CALL_RESERVE);
    world_answer(&w, seat->token, (struct core_answer){.code = ROOM_E_ROOM_FULL, .seats = 2, .seats_version = 9,
                                      .max_players = 2});
    world_take_call(&w, CORE_CALL_CREATE);
    world_end(&w);
}

/* The owner that is asked for a seat is not there. */
static void nobody(struct world *w)
{
    world_answer(w, world_take_call(w, CORE_CALL_RESERVE)->token, (struct core_answer){.code = ROOM_E_NO_RESPONDERS});
}

Test(core_join, a_dead_owners_room_is_waited_for_but_not_for_ever)
{
    struct world w;
    int asked = 0, ms = 0;
    world_begin(&w);
    world_server_entry(&w, world_server("b", "01B"));
    struct room_info r = world_room("r", "b", "01B");
    world_room_entry(&w, r);
    world_want(&w, 1, CORE_JOIN_OR_CREATE, "r", "duel");
    struct core_fx *fx;
    while (!(fx = world_find(&w, CORE_FX_JOIN_RESULT)) && ms < 10000) {
        struct core_fx *call = world_find(&w, CORE_FX_CALL), *get;
        if (call) {
            cr_assert_eq(call->call.kind, CORE_CALL_RESERVE, "nobody makes a second room of this name");
            world_answer(&w, call->token, (struct core_answer){.code = ROOM_E_NO_RESPONDERS});
            asked++;
        } else if ((get = world_find(&w, CORE_FX_GET_ROOM))) {
            world_kv(&w, get->token, CORE_KV_OK, w.revision, NULL, &r);
        } else {
            world_run(&w, 50);
            ms += 50;
        }
    }
    cr_assert(fx && fx->answer.code == ROOM_E_UNAVAILABLE);
    cr_assert(ms >= 3000 && ms < 4000, "%d ms", ms);
    cr_assert(asked < 30, "%d calls", asked);
    world_end(&w);
}

/* A room of a dead owner that is kept, in this state; and a player who wants into it. */
static void want_kept(struct world *w, enum core_join_mode mode, enum room_state state)
{
    world_begin(w);
    struct server_info b = world_server("b", "01B");
    b.status = SERVER_DOWN;
    world_server_entry(w, b);
    struct room_info r = world_room("r", "b", "01B");
    r.type = world_id("x"); /* known elsewhere: not this node takes it */
    r.durability = DURABILITY_JOURNAL;
    r.state = state;
    world_room_entry(w, r);
    world_want(w, 1, mode, "r", "duel");
}

Test(core_join, a_room_that_will_come_back_is_waited_for)
{
    for (enum core_join_mode mode = CORE_JOIN_OR_CREATE; mode <= CORE_JOIN; mode++)
        for (enum room_state state = ROOM_STARTING; state <= ROOM_PENDING; state++) {
            struct world w;
            want_kept(&w, mode, state);
            world_run(&w, 1500);
            cr_assert_eq(world_count(&w, CORE_FX_CALL) + world_count(&w, CORE_FX_JOIN_RESULT), 0);
            world_server_entry(&w, world_server("c", "01C"));
            struct room_info r = world_room("r", "c", "01C");
            r.epoch = 2;
            r.durability = DURABILITY_JOURNAL;
            world_room_entry(&w, r);
            world_run(&w, 500);
            cr_assert_str_eq(world_take_call(&w, CORE_CALL_RESERVE)->server.s, "c");
            world_end(&w);
        }
}

Test(core_join, but_not_for_ever_and_not_if_it_is_parked)
{
    struct world w;
    want_kept(&w, CORE_JOIN_OR_CREATE, ROOM_PENDING);
    world_run(&w, 4000);
    cr_assert_eq(world_take(&w, CORE_FX_JOIN_RESULT)->answer.code, ROOM_E_UNAVAILABLE);
    world_end(&w);
    want_kept(&w, CORE_JOIN_OR_CREATE, ROOM_PARKED);
    cr_assert_eq(world_take(&w, CORE_FX_JOIN_RESULT)->answer.code, ROOM_E_UNAVAILABLE);
    world_end(&w);
    want_kept(&w, CORE_CREATE, ROOM_PENDING);
    cr_assert_eq(world_take(&w, CORE_FX_JOIN_RESULT)->answer.code, ROOM_E_EXISTS);
    world_end(&w);
}

Test(core_join, what_the_leader_says_of_a_kept_room_counts_too)
{
    struct world w;
    world_begin(&w);
    world_want(&w, 1, CORE_JOIN, "r", "");
    struct room_info r = world_room("r", "a", core_self(w.c)->boot);
    r.durability = DURABILITY_JOURNAL;
    r.state = ROOM_STARTING;
    world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, CORE_KV_OK, 9, NULL, &r);
    cr_assert_eq(world_count(&w, CORE_FX_CALL) + world_count(&w, CORE_FX_JOIN_RESULT), 0);
    world_end(&w);
}

Test(core_join, a_room_on_its_way_to_a_new_owner_is_waited_for_kept_or_not)
{
    for (int kept = 0; kept < 2; kept++) {
        struct world w;
        world_begin(&w);
        world_server_entry(&w, world_server("b", "01B"));
        struct room_info r = world_room("r", "b", "01B");
        r.durability = kept ? DURABILITY_SNAPSHOT : DURABILITY_NONE;
        r.state = ROOM_STARTING;
        world_room_entry(&w, r);
        world_want(&w, 1, CORE_JOIN_OR_CREATE, "r", "duel");
        world_run(&w, 1000);
        cr_assert_eq(world_count(&w, CORE_FX_CALL) + world_count(&w, CORE_FX_JOIN_RESULT), 0);
        r.state = ROOM_RUNNING;
        world_room_entry(&w, r);
        world_run(&w, 500);
        cr_assert_str_eq(world_take_call(&w, CORE_CALL_RESERVE)->server.s, "b");
        world_end(&w);
    }
}

/* The claim's answer names an epoch: the name is in use. It is not asked for again at once, at one node after the other. */
Test(core_join, a_name_whose_room_is_away_is_waited_for)
{
    struct world w;
    world_begin(&w);
    world_server_entry(&w, world_server("b", "01B"));
    world_want(&w, 1, CORE_JOIN_OR_CREATE, "hall", "duel");
    int asked = 0;
    struct core_fx *fx = NULL;
    for (int ms = 0; !fx && ms < 5000; ms += 50) {
        struct core_fx *call = world_find(&w, CORE_FX_CALL);
        asked += call != NULL;
        if (call)
            world_answer(&w, call->token, (struct core_answer){.code = ROOM_E_UNAVAILABLE, .room = world_id("hall"),
                                              .epoch = 3, .server = world_id("c")});
        world_run(&w, 50);
        fx = world_find(&w, CORE_FX_JOIN_RESULT);
    }
    cr_assert(fx && fx->answer.code == ROOM_E_UNAVAILABLE);
    cr_assert(asked > 5 && asked < 20, "%d", asked);
    world_end(&w);
}

Test(core_join, a_join_asks_the_view_then_the_leader_then_gives_up)
{
    struct world w;
    world_begin(&w);
    world_server_entry(&w, world_server("b", "01B"));
    struct room_info r = world_room("r", "b", "01B");
    world_room_entry(&w, r);
    world_want(&w, 1, CORE_JOIN, "r", "");
    for (int i = 0; i < 3; i++) { /* a NATS server that dies takes a call or two along */
        nobody(&w);
        if (i < 2)
            world_run(&w, 150);
    }
    world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, CORE_KV_OK, w.revision, NULL, &r);
    nobody(&w);
    cr_assert_null(world_find(&w, CORE_FX_JOIN_RESULT), "the leader lists it: its owner may have died a moment ago");
    world_run(&w, 400);
    nobody(&w);
    world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, CORE_KV_NOT_FOUND, 0, NULL, NULL);
    cr_assert_eq(world_take(&w, CORE_FX_JOIN_RESULT)->answer.code, ROOM_E_NOT_FOUND);
    world_end(&w);
}

Test(core_join, an_existing_room_is_joined_where_its_owner_is)
{
    struct world w;
    world_begin(&w);
    world_want(&w, 1, CORE_JOIN_OR_CREATE, "hall", "duel");
    world_answer(&w, world_take_call(&w, CORE_CALL_CREATE)->token,
                 (struct core_answer){.code = ROOM_E_EXISTS, .room = world_id("hall"), .server = world_id("b")});
    cr_assert_str_eq(world_take_call(&w, CORE_CALL_RESERVE)->server.s, "b");
    world_end(&w);
}

Test(core_join, an_owner_that_does_not_know_its_room_yet_is_asked_again)
{
    struct world w;
    world_begin(&w);
    world_server_entry(&w, world_server("b", "01B"));
    struct room_info r = world_room("hall", "b", "01B");
    world_want(&w, 1, CORE_JOIN, "hall", "");
    world_kv(&w, world_take(&w, CORE_FX_GET_ROOM)->token, CORE_KV_OK, ++w.revision, NULL, &r);
    world_answer(&w, world_take_call(&w, CORE_CALL_RESERVE)->token, (struct core_answer){.code = ROOM_E_NOT_FOUND});
    cr_assert_eq(world_count(&w, CORE_FX_GET_ROOM) + world_count(&w, CORE_FX_CALL), 0, "not at once: it needs a moment");
    world_run(&w, 100);
    world_answer(&w, world_take_call(&w, CORE_CALL_RESERVE)->token,
                 (struct core_answer){.room = world_id("hall"), .server = world_id("b")});
    cr_assert_eq(world_take(&w, CORE_FX_JOIN_RESULT)->answer.code, ROOM_E_OK);
    world_end(&w);
}

Test(core_join, a_lone_node_that_could_not_make_a_room_is_asked_again)
{
    struct world w;
    world_begin(&w);
    world_want(&w, 1, CORE_JOIN_OR_CREATE, "hall", "duel");
    world_answer(&w, world_take_call(&w, CORE_CALL_CREATE)->token, (struct core_answer){.code = ROOM_E_UNAVAILABLE});
    cr_assert_str_eq(world_take_call(&w, CORE_CALL_CREATE)->server.s, "a");
    world_end(&w);
}

Test(core_join, a_registry_that_is_silent_for_long_is_said_so)
{
    struct world w;
    int calls = 0;
    world_begin(&w);
    world_server_entry(&w, world_server("b", "01B"));
    world_want(&w, 1, CORE_CREATE, "hall", "duel");
    struct core_fx *result;
    while (!(result = world_find(&w, CORE_FX_JOIN_RESULT))) {
        struct core_fx call = *world_take_call(&w, CORE_CALL_CREATE);
        world_run(&w, call.timeout_ms - 400);
        world_answer(&w, call.token, (struct core_answer){.code = ROOM_E_TIMEOUT});
        cr_assert_leq(++calls, 2, "the player waits for 9 s each time");
    }
    cr_assert_eq(result->answer.code, ROOM_E_TIMEOUT);
    world_end(&w);
}

Test(core_join, an_unreachable_allocator_is_replaced)
{
    struct world w;
    world_begin(&w);
    for (const char *s = "bcdefgh"; *s; s++) {
        char name[2] = {*s, 0};
        world_server_entry(&w, world_server(name, "01B"));
    }
    world_want(&w, 1, CORE_JOIN_OR_CREATE, "", "duel");
    struct core_fx first = *world_take(&w, CORE_FX_CALL);
    cr_assert_str_neq(first.server.s, "a");
    world_answer(&w, first.token, (struct core_answer){.code = ROOM_E_NO_RESPONDERS});
    const struct core_fx *second = world_take(&w, CORE_FX_CALL); /* another allocator, or this node if it comes next in rank */
    cr_assert(second->call.kind == CORE_CALL_CREATE || strcmp(second->server.s, first.server.s) != 0);
    world_end(&w);
}

Test(core_join, a_question_hands_nothing_out)
{
    struct world w;
    world_begin(&w);
    for (int i = 0; i < 5000; i++)
        cr_assert_eq(core_route(w.c, NULL, "duel").kind, CORE_ROUTE_CREATE);
    cr_assert_eq(view_server(core_view(w.c), "a")->handed_out, 0);
    world_end(&w);
}

/* Nothing of the burst has arrived anywhere when the last of it is placed: only what was handed out tells them apart. */
Test(core_join, a_burst_of_creations_is_spread)
{
    struct world w;
    int here = 0, there = 0;
    world_begin(&w);
    world_server_entry(&w, world_server("b", "01B"));
    for (uint64_t i = 1; i <= 20; i++)
        world_want(&w, i, CORE_CREATE, "", "duel");
    for (int i = 0; i < 20; i++) {
        struct core_fx *make = world_take_call(&w, CORE_CALL_CREATE);
        bool local = strcmp(make->server.s, "a") == 0;
        *(local ? &here : &there) += 1;
        if (local) { /* it arrives, and is counted once from then on */
            struct core_call call = make->call;
            world_step(&w, (struct core_event){.kind = CORE_EV_CALL, .req = 100 + (uint64_t)i, .call = &call});
        }
    }
    cr_assert_eq(here, 10);
    cr_assert_eq(there, 10);
    cr_assert_eq(view_server(core_view(w.c), "a")->handed_out, 0);
    world_end(&w);
}
