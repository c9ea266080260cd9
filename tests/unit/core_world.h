/*
 * One core under test, with its effects on a list.
 *
 * Decides nothing: a test makes the events, takes the effects it expects from the list and answers them. Pings of other
 * nodes are answered by `ping`, unless a test wants them (`hold_pings`); writes and reads of this node's own registry
 * entry are granted while `grant_self` is set. Time moves only by world_run().
 * Room types: duel (nothing is kept), game (the same, but it can be saved for a move), snap (snapshots), safe (journal),
 * stay (journal, not taken over); two seats each.
 * Invariant: world_end() finds every byte given back.
 */
#ifndef UNIT_CORE_WORLD_H
#define UNIT_CORE_WORLD_H

#include <criterion/criterion.h>

#include "core/state.h"

enum { WORLD_FX = 4096 };

struct world {
    struct alloc_budget memory;
    struct core_config config;
    struct core *c;
    struct mono now;
    struct wall wall;
    uint64_t revision; /* of the registry: grows by one per write */
    bool grant_self, hold_pings;
    enum core_ping_result ping; /* what pings of others give */
    struct core_fx *fx, taken;
    size_t count;
};

void world_init(struct world *w);   /* a core that is configured, not started */
void world_start(struct world *w);  /* creates the core from `config` */
void world_join(struct world *w);   /* bus up, both registries listed, entry claimed */
void world_begin(struct world *w);  /* all three */
void world_end(struct world *w);
void world_step(struct world *w, struct core_event ev);
void world_run(struct world *w, int ms); /* ticks every CORE_TICK_MS */

/* The first effect of the kind, removed from the list; NULL: none. Borrowed until the next call. */
struct core_fx *world_find(struct world *w, enum core_fx_kind kind);
struct core_fx *world_take(struct world *w, enum core_fx_kind kind); /* fails the test if there is none */
struct core_fx *world_take_call(struct world *w, enum core_call_kind kind);
size_t world_count(const struct world *w, enum core_fx_kind kind);
void world_clear(struct world *w);

struct id world_id(const char *s);
struct server_info world_server(const char *id, const char *boot);
struct room_info world_room(const char *id, const char *owner, const char *boot);
void world_listing(struct world *w); /* both registries begin and end empty */
void world_server_entry(struct world *w, struct server_info info);
void world_room_entry(struct world *w, struct room_info info);
void world_kv(struct world *w, uint64_t token, enum core_kv_result result, uint64_t revision,
              const struct server_info *server, const struct room_info *room);
void world_pinged(struct world *w, uint64_t token, enum core_ping_result result);
void world_answer(struct world *w, uint64_t token, struct core_answer answer);
void world_create(struct world *w, uint64_t req, const char *room, bool generated);
void world_started(struct world *w, const char *room, int code);
/* A room made here by its generated id, running and listed. */
void world_running(struct world *w, const char *room);
void world_want(struct world *w, uint64_t req, enum core_join_mode mode, const char *room, const char *type);

#endif
