/* Every placement strategy as a table over three nodes, and by statistics where it draws lots. */
#include <criterion/criterion.h>

#include "core/place.h"

static struct place_candidate three[3];

static void nodes(void)
{
    const struct place_candidate fresh[3] = {
        {.id = "a", .region = "eu", .eligible = true, .local = true, .rooms = 5, .players = 1, .capacity = 10,
         .load = 0.9, .latency_us = 900},
        {.id = "b", .region = "us", .eligible = true, .rooms = 2, .players = 9, .capacity = 10, .load = 0.5,
         .latency_us = 0},
        {.id = "c", .region = "eu", .eligible = true, .rooms = 2, .players = 4, .capacity = 10, .load = 0.1,
         .latency_us = 300}};
    memcpy(three, fresh, sizeof(three));
}

TestSuite(core_place, .init = nodes);

static int choose(enum place_strategy s, const char *region, bool local, uint64_t cursor)
{
    struct rng rng;
    rng_init(&rng, cursor + 1);
    return place_choose(&(struct place_query){.strategy = s, .region = region, .prefer_local = local, .cursor = cursor},
                        three, 3, &rng);
}

Test(core_place, the_measured_strategies_choose_the_least)
{
    three[2].rooms = 3;
    cr_assert_eq(choose(PLACE_LEAST_ROOMS, "", false, 0), 1);
    three[2].rooms = 2;
    cr_assert_eq(choose(PLACE_LEAST_PLAYERS, "", false, 0), 0);
    cr_assert_eq(choose(PLACE_LOAD, "", false, 0), 2);
    cr_assert_eq(choose(PLACE_LATENCY, "", false, 0), 2, "not measured is the worst");
    cr_assert_eq(choose(PLACE_REGION, "us", false, 0), 1);
    cr_assert_eq(choose(PLACE_REGION, "eu", false, 0), 2);
    cr_assert_neq(choose(PLACE_REGION, "asia", false, 0), 0, "falls back to everywhere");
    for (uint64_t i = 0; i < 9; i++)
        cr_assert_eq(choose(PLACE_ROUND_ROBIN, "", false, i), (int)(i % 3));
}

Test(core_place, equals_share_what_comes)
{
    int got[3] = {0};
    struct rng rng;
    rng_init(&rng, 5);
    for (int i = 0; i < 3000; i++)
        got[place_choose(&(struct place_query){.strategy = PLACE_LEAST_ROOMS}, three, 3, &rng)]++;
    cr_assert_eq(got[0], 0);
    cr_assert(got[1] > 1400 && got[2] > 1400, "%d %d", got[1], got[2]);
}

Test(core_place, nobody_full_or_not_eligible_is_chosen_by_any_strategy)
{
    for (int s = 0; s < PLACE_COUNT; s++) {
        cr_assert_eq(place_strategy_from_name(place_strategy_name((enum place_strategy)s)), s);
        nodes();
        cr_assert_eq(choose((enum place_strategy)s, "us", true, 0), 0, "prefer_local");
        three[0].rooms = three[0].capacity;
        three[1].eligible = false;
        for (uint64_t i = 0; i < 50; i++)
            cr_assert_eq(choose((enum place_strategy)s, "us", true, i), 2);
        three[2].rooms = 11;
        cr_assert_eq(choose((enum place_strategy)s, "us", true, 0), -1);
        cr_assert_eq(place_choose(&(struct place_query){.strategy = (enum place_strategy)s}, NULL, 0, NULL), -1);
    }
}

Test(core_place, lots_fall_as_they_should)
{
    static const struct { enum place_strategy s; double share[3]; } rows[] = {
        {PLACE_RANDOM, {1 / 3.0, 1 / 3.0, 1 / 3.0}},
        {PLACE_WEIGHTED, {5 / 21.0, 8 / 21.0, 8 / 21.0}},
        {PLACE_TWO_CHOICES, {1 / 9.0, 4 / 9.0, 4 / 9.0}}};
    for (size_t r = 0; r < 3; r++) {
        struct rng rng;
        int got[3] = {0};
        rng_init(&rng, 42);
        for (int i = 0; i < 30000; i++)
            got[place_choose(&(struct place_query){.strategy = rows[r].s}, three, 3, &rng)]++;
        for (int i = 0; i < 3; i++)
            cr_assert_float_eq(got[i] / 30000.0, rows[r].share[i], 0.02, "%zu: %d got %d", r, i, got[i]);
    }
}
