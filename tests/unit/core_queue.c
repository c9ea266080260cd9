/* How --queue is read: what it means, and what is wrong with one. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/queue.h"

Test(queue, all_keys_are_read)
{
    struct queues all = {0};
    cr_assert_eq(queues_add(&all, "ranked=chess,teams=2x5,equal=region,equal=mode,range=rank:100:20:1000,range=ping:50,"
                                  "max_wait=2m,confirm=10s", NULL), 0);
    cr_assert_eq(queues_add(&all, "duel=chess,size=2,max_wait=0", NULL), 0);
    const struct queue *q = queues_find(&all, "ranked");
    cr_assert_not_null(q);
    cr_assert_str_eq(q->type.s, "chess");
    cr_assert_eq(q->teams, 2);
    cr_assert_eq(q->team_size, 5);
    cr_assert_eq(queue_size(q), 10);
    cr_assert_eq(q->equal_count, 2);
    cr_assert_str_eq(q->equals[1], "mode");
    cr_assert_eq(q->max_wait_ms, 120000);
    cr_assert_eq(q->confirm_ms, 10000);
    cr_assert_eq(queue_tolerance(q, 0, 0), 100);
    cr_assert_eq(queue_tolerance(q, 0, 5000), 200);
    cr_assert_eq(queue_tolerance(q, 0, 500000), 1000);
    cr_assert_eq(queue_tolerance(q, 1, 500000), 50);
    cr_assert_eq(queues_find(&all, "duel")->max_wait_ms, 0);
    cr_assert_null(queues_find(&all, "other"));
}

Test(queue, nonsense_is_refused_by_name)
{
    static const char *const wrong[][2] = {
        {"duel", "wanted NAME=TYPE"}, {"=chess,size=2", "wanted NAME=TYPE"}, {"all=chess,size=2", "wanted NAME=TYPE"},
        {"duel=chess", "size=N"}, {"duel=chess,size=0", "size='0'"}, {"duel=chess,size=65", "size='65'"},
        {"duel=chess,size=2x2", "size='2x2'"}, {"duel=chess,teams=9x9", "teams='9x9'"}, {"duel=chess,teams=2", "teams='2'"},
        {"duel=chess,size=2,teams=1x2", "said already"}, {"duel=chess,size", "not KEY=VALUE"},
        {"duel=chess,size=2,range=rank", "range='rank'"}, {"duel=chess,size=2,range=rank:-1", "range='rank:-1'"},
        {"duel=chess,size=2,range=rank:5:1:4", "range='rank:5:1:4'"}, {"duel=chess,size=2,range=rank:5:1:9:9", "range="},
        {"duel=chess,size=2,range=a b:5", "range="}, {"duel=chess,size=2,equal=", "equal=''"},
        {"duel=chess,size=2,max_wait=5h", "max_wait='5h'"}, {"duel=chess,size=2,confirm=10m", "confirm='10m'"},
        {"duel=chess,size=2,max_wait=50ms", "max_wait='50ms'"}, {"duel=chess,size=2,speed=3", "unknown key 'speed'"},
        {"duel=chess,size=2,equal=a,equal=b,equal=c,equal=d,equal=e", "4 of them"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct queues all = {0};
        struct err_detail detail = {""};
        cr_assert_eq(queues_add(&all, wrong[i][0], &detail), ROOM_E_INVALID, "%s", wrong[i][0]);
        cr_assert_not_null(strstr(detail.text, wrong[i][1]), "%s: %s", wrong[i][0], detail.text);
        cr_assert_eq(all.count, 0);
    }
}

Test(queue, as_many_as_fit)
{
    struct queues all = {0};
    struct err_detail detail = {""};
    char spec[64];
    for (int i = 0; i < QUEUES_MAX; i++) {
        snprintf(spec, sizeof(spec), "q%d=chess,size=2", i);
        cr_assert_eq(queues_add(&all, spec, NULL), 0);
    }
    cr_assert_eq(queues_add(&all, "q0=chess,size=2", &detail), ROOM_E_EXISTS);
    cr_assert_eq(queues_add(&all, "more=chess,size=2", &detail), ROOM_E_FULL);
    cr_assert_not_null(strstr(detail.text, "32 are the limit"));
}
