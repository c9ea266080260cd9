/*
 * sim: runs seeds of the simulated cluster and says which fail.
 *
 *   sim --seed N [--trace]       one seed
 *   sim --from A --count K       seeds A .. A+K-1
 *   sim --file FILE              the seeds in a file, one a line, # for comments
 *   --mutate stale-cas|unknown-is-conflict   the registries break their promise; the run must fail
 *
 * Each seed runs twice and must tell the same story both times. Exit code 0: all held; 1: a seed failed (its number and
 * the reason are printed), or a hundred seeds and more saw no move or no drain come to its end, no session taken up again or
 * none replaced; 2: usage. Decides the order of things: faults, healing, proof that all is well.
 */
#include "clients.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { HEAL_WITHIN_S = 60, LOOK_EVERY_MS = 250, MANY_SEEDS = 100 };

static struct types *make_types(void)
{
    struct types *types = types_create(&alloc_libc);
    for (size_t i = 0; types && i < CLIENT_TYPES; i++) {
        struct err_detail detail;
        if (types_variant(types, client_types[i].spec, &detail)) {
            fprintf(stderr, "sim: %s\n", detail.text);
            exit(2);
        }
    }
    return types;
}

static void run_until(struct world *w, int64_t until_us)
{
    while (!w->failed && w->heap_count && w->heap[0].at_us <= until_us)
        world_step(w);
    if (w->now_us < until_us && !w->failed)
        w->now_us = until_us;
}

/* After the faults: everybody gets a seat again, then, with nobody moving, everything agrees. */
static void settle(struct world *w)
{
    char why[256] = "";
    int64_t end = w->now_us + HEAL_WITHIN_S * (int64_t)SIM_S;
    faults_heal(w);
    while (!w->failed && w->now_us < end) {
        run_until(w, w->now_us + LOOK_EVERY_MS * SIM_MS);
        faults_look(w);
        if (!w->quiet && clients_proved(w, why, sizeof(why)))
            w->quiet = true;
        if (w->quiet && settle_holds(w, why, sizeof(why)) && clients_agree(w, why, sizeof(why)) &&
            logins_agree(w, why, sizeof(why)) && replayed_holds(w, why, sizeof(why)))
            return;
    }
    if (!w->failed)
        world_fail(w, "G9: not well %d s after the faults: %s", HEAL_WITHIN_S, why);
}

struct outcome {
    uint64_t hash, steps;
    unsigned joins, messages, resumes, replaced;
    struct sim_moves moves;
    bool failed;
    char failure[512];
};

static struct outcome run(uint64_t seed, bool trace, enum sim_mutation mutation)
{
    struct world *w = world_alloc(sizeof(*w));
    world_init(w, seed, trace, mutation);
    w->types = make_types();
    invariants_init(w);
    ledger_init(w);
    proc_init(w);
    logins_init(w);
    clients_init(w);
    faults_init(w);
    operator_init(w);
    run_until(w, world_between(w, 15, 50) * (int64_t)SIM_S);
    if (!w->failed)
        settle(w);
    ledger_close(w);
    struct outcome o = {.hash = world_hash(w), .steps = w->steps, .joins = w->joins, .messages = w->messages,
                        .resumes = w->resumes, .replaced = w->replaced, .moves = w->moves, .failed = w->failed};
    memcpy(o.failure, w->failure, sizeof(o.failure));
    proc_deinit(w);
    clients_deinit(w);
    logins_deinit(w);
    operator_deinit(w);
    invariants_deinit(w);
    ledger_deinit(w);
    sim_kv_deinit(w);
    sim_log_deinit(w);
    types_destroy(w->types);
    world_deinit(w);
    free(w);
    return o;
}

struct totals {
    unsigned seeds, failed, joins, messages, resumes, replaced;
    struct sim_moves moves;
};

static void count_moves(struct sim_moves *all, const struct sim_moves *m)
{
    all->asked += m->asked;
    all->committed += m->committed;
    all->rolled_back += m->rolled_back;
    all->drains += m->drains;
    all->drained += m->drained;
}

/* False: what the seeds are for did not happen. */
static bool say_totals(const struct totals *t)
{
    const struct sim_moves *m = &t->moves;
    bool happened = t->seeds < MANY_SEEDS || (m->committed && m->drained && t->resumes && t->replaced);
    printf("%u seeds, %u failed, %u joins, %u messages, %u sessions taken up again, %u replaced, %u moves asked, %u committed, "
           "%u rolled back, %u drains, %u ended\n",
           t->seeds, t->failed, t->joins, t->messages, t->resumes, t->replaced, m->asked, m->committed, m->rolled_back,
           m->drains, m->drained);
    if (!happened)
        printf("FAILED no move was committed, no drain came to its end, or no session was taken up again or replaced, in %u seeds\n",
               t->seeds);
    return happened;
}

static void run_seed(uint64_t seed, bool trace, enum sim_mutation mutation, struct totals *t)
{
    struct outcome a = run(seed, trace, mutation);
    if (trace)
        puts("---- again ----");
    struct outcome b = run(seed, trace, mutation);
    t->seeds++;
    t->joins += a.joins;
    t->messages += a.messages;
    t->resumes += a.resumes;
    t->replaced += a.replaced;
    count_moves(&t->moves, &a.moves);
    if (a.hash != b.hash) {
        a.failed = true;
        snprintf(a.failure, sizeof(a.failure), "two runs differ: %016llx and %016llx", (unsigned long long)a.hash,
                 (unsigned long long)b.hash);
    }
    if (!a.failed)
        return;
    t->failed++;
    printf("seed %llu FAILED %s\n", (unsigned long long)seed, a.failure);
    fflush(stdout);
}

static void run_file(const char *path, enum sim_mutation mutation, bool stop_first, struct totals *t)
{
    FILE *f = fopen(path, "r");
    char line[256];
    if (!f) {
        fprintf(stderr, "sim: cannot read '%s'\n", path);
        exit(2);
    }
    while (fgets(line, sizeof(line), f)) {
        char *end;
        unsigned long long seed = strtoull(line, &end, 10);
        if (end != line && !(stop_first && t->failed))
            run_seed(seed, false, mutation, t);
    }
    fclose(f);
}

static enum sim_mutation mutation_of(const char *name)
{
    if (strcmp(name, "stale-cas") == 0)
        return SIM_MUTATE_STALE_CAS;
    if (strcmp(name, "unknown-is-conflict") == 0)
        return SIM_MUTATE_UNKNOWN_IS_CONFLICT;
    fprintf(stderr, "sim: no mutation '%s'\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    unsigned long long from = 1, count = 1;
    bool trace = false, stop_first = false;
    const char *file = NULL;
    enum sim_mutation mutation = SIM_MUTATE_NONE;
    struct totals t = {0};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--trace") == 0)
            trace = true;
        else if (strcmp(argv[i], "--first") == 0)
            stop_first = true;
        else if ((strcmp(argv[i], "--seed") == 0 || strcmp(argv[i], "--from") == 0) && ++i)
            from = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--count") == 0 && ++i)
            count = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--file") == 0 && ++i)
            file = value;
        else if (strcmp(argv[i], "--mutate") == 0 && ++i)
            mutation = mutation_of(value);
        else {
            fprintf(stderr, "sim: do not know '%s'; the head of tests/sim/main.c tells the options\n", argv[i]);
            return 2;
        }
    }
    log_setup(LOG_OFF, LOG_LOGFMT, "sim");
    if (file)
        run_file(file, mutation, stop_first, &t);
    for (unsigned long long i = 0; !file && i < count && !(stop_first && t.failed); i++)
        run_seed(from + i, trace, mutation, &t);
    return say_totals(&t) && !t.failed ? 0 : 1;
}
