/*
 * The leader of a bucket or stream of the simulated cluster.
 *
 * Decides: whether an operation is done and answered, done and not answered, lost, or done up to 12 s later; while there is
 * no leader it is one of the last two, or refused. Must not know what an operation is. Invariant: each is done once at the
 * most, and decided against the state of that moment.
 */
#include "sim.h"

#include <string.h>

static void perform_late(struct world *w, void *arg)
{
    const struct sim_op *op = arg;
    int64_t until = op->kind->leaderless_until(w, op);
    if (w->now_us < until) {
        struct sim_op *again = world_alloc(op->size);
        memcpy(again, op, op->size);
        world_at(w, until + 1, perform_late, again);
        return;
    }
    world_note(w, "late:");
    op->kind->perform(w, op, false);
}

static void lose(struct world *w, const struct sim_op *op, unsigned late_percent)
{
    if (!world_chance(w, late_percent))
        return;
    struct sim_op *later = world_alloc(op->size);
    memcpy(later, op, op->size);
    op->kind->put_off(w, later);
    later->late = true;
    world_at(w, w->now_us + world_between(w, 1, 12000) * SIM_MS, perform_late, later);
}

static void at_leader(struct world *w, void *arg)
{
    const struct sim_op *op = arg;
    uint64_t dice = rng_below(&w->rng, 1000);
    if (w->now_us < op->kind->leaderless_until(w, op)) {
        if (dice < 600)
            sim_bus_answer(w, op->owner, op->life, op->number, w->now_us + sim_bus_delay(w),
                           w->mutation == SIM_MUTATE_UNKNOWN_IS_CONFLICT ? BUS_CONFLICT : BUS_UNKNOWN, 0, NULL, 0);
        else
            lose(w, op, 40);
    } else if (dice < 5 && !w->healing) {
        op->kind->perform(w, op, false); /* done, but nobody hears of it */
    } else if (dice < 9 && !w->healing) {
        lose(w, op, 50);
    } else {
        op->kind->perform(w, op, true);
    }
}

int sim_lead_begin(struct sim_bus *b, uint64_t token, struct sim_op *op, int timeout_ms)
{
    op->owner = b->owner;
    op->life = b->life;
    op->number = sim_bus_open(b, token, timeout_ms);
    sim_bus_outward(b, b->w->now_us + sim_bus_delay(b->w), at_leader, op);
    return 0;
}
