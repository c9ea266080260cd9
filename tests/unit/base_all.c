/* The base: limits of buffers and budgets, order of maps, ids and random numbers that never change, the error table. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "base/map.h"

Test(base, a_buffer_stops_at_its_limit_and_stays_stopped)
{
    struct buf b;
    buf_init(&b, &alloc_libc, 100);
    for (int i = 0; i < 100; i++)
        cr_assert(buf_byte(&b, 'x'));
    cr_assert_not(buf_byte(&b, 'y'));
    buf_consume(&b, 50);
    cr_assert_not(buf_text(&b, "z"), "failed until it is reset");
    buf_reset(&b);
    cr_assert(buf_printf(&b, "%d", 42));
    cr_assert_arr_eq(b.data, "42", 2);
    buf_deinit(&b);
}

Test(base, a_budget_counts_caps_and_fails)
{
    struct alloc_budget m;
    alloc_budget_init(&m, &alloc_libc, 100);
    void *p = alloc_get(&m.alloc, 60);
    cr_assert_null(alloc_get(&m.alloc, 41));
    p = alloc_resize(&m.alloc, p, 60, 100);
    cr_assert_not_null(p);
    cr_assert_eq(m.used_bytes, 100);
    alloc_put(&m.alloc, p, 100);
    m.fail_after = 0;
    cr_assert_null(alloc_get(&m.alloc, 1));
    cr_assert_eq(m.used_bytes, 0);
}

Test(base, a_map_is_walked_in_order_while_entries_go_and_memory_fails)
{
    for (long n = 0; n < 120; n++) {
        struct alloc_budget memory;
        struct map m;
        int values[100], at = 0;
        char key[8];
        alloc_budget_init(&memory, &alloc_libc, SIZE_MAX);
        memory.fail_after = n;
        map_init(&m, &memory.alloc);
        for (values[0] = 0; at < 100; at++) {
            snprintf(key, sizeof(key), "k%d", at);
            values[at] = at;
            if (!map_put(&m, key, &values[at]))
                break;
        }
        cr_assert_eq(m.count, (size_t)at);
        int seen = 0;
        for (struct map_iter it = map_first(&m); it.value; map_next(&it)) {
            cr_assert_eq(*(int *)it.value, seen++);
            snprintf(key, sizeof(key), "%s", it.key);
            cr_assert_eq(map_del(&m, key), &values[seen - 1]);
        }
        cr_assert_eq(seen, at);
        map_deinit(&m);
        cr_assert_eq(memory.used_bytes, 0);
    }
}

Test(base, ids)
{
    struct rng rng;
    struct wall at = {1700000000123}, back;
    char a[ULID_SIZE], b[ULID_SIZE];
    cr_assert(id_valid("a-B_9") && !id_valid("") && !id_valid("all") && !id_valid("a.b") && !id_valid("a b"));
    rng_init(&rng, 0);
    cr_assert_eq(rng_next(&rng), 0x99ec5f36cb75f2b4u, "xoshiro256** of seed 0, as published");
    cr_assert_eq(rng_next(&rng), 0xbf6e1f784956452au);
    for (int i = 0; i < 1000; i++, at.ms++) {
        id_ulid(a, at, &rng);
        id_ulid(b, (struct wall){at.ms + 1}, &rng);
        cr_assert_lt(strcmp(a, b), 0);
        cr_assert(id_ulid_time(a, &back) && back.ms == at.ms);
    }
    cr_assert_not(id_ulid_time("8ZZZZZZZZZZZZZZZZZZZZZZZZZ", &back));
    cr_assert_not(id_ulid_time("01B", &back));
    id_derived(a, "duel", "order-1");
    id_derived(b, "duelo", "rder-1");
    cr_assert_str_neq(a, b);
    id_derived(b, "duel", "order-1");
    cr_assert_str_eq(a, b);
    cr_assert_str_eq(a, "2EQR3XW9W5MA7ANEPD596FDHMD", "got %s", a);
}

Test(base, errors_and_times)
{
    static const int codes[] = {
#define CODE(symbol, number, name, text, retryable) number,
        ROOM_ERROR_TABLE(CODE)
#undef CODE
    };
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
        cr_assert_eq(room_error_from_name(room_error_name(codes[i])), codes[i]);
        for (size_t k = 0; k < i; k++)
            cr_assert_neq(codes[i], codes[k]);
    }
    char text[TIME_RFC3339_SIZE];
    time_rfc3339((struct wall){1700000000123}, text);
    cr_assert_str_eq(text, "2023-11-14T22:13:20.123Z");
}

Test(base, a_time_written_is_read_and_nothing_else)
{
    struct wall t = {0};
    cr_assert(time_from_rfc3339("2023-11-14T22:13:20.123Z", 24, &t) && t.ms == 1700000000123);
    cr_assert(time_from_rfc3339("2023-11-14T22:13:20Z", 20, &t) && t.ms == 1700000000000);
    static const char *const bad[] = {"", "2023-11-14", "2023-11-14T22:13:20", "2023-11-14T22:13:20.123Zx",
                                      "2023-11-14T22:13:20+02:00", "yesterday", "2023-11-14T22:13:20.Z"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        cr_assert_not(time_from_rfc3339(bad[i], strlen(bad[i]), &t), "%s", bad[i]);
    cr_assert_not(time_from_rfc3339(NULL, 0, &t));
    cr_assert_eq(t.ms, 1700000000000);
}

Test(base, a_borrowed_key_may_go_with_the_value_it_was_in)
{
    struct alloc_budget memory;
    alloc_budget_init(&memory, &alloc_libc, SIZE_MAX);
    struct map m;
    char first[] = "a", second[] = "a", third[] = "c";
    map_init(&m, &memory.alloc);
    cr_assert(map_put_borrowed(&m, first, first) && map_put(&m, "b", &m) && map_put_borrowed(&m, third, third));
    cr_assert(map_put_borrowed(&m, second, second));
    first[0] = 'x';
    cr_assert_eq(map_get(&m, "a"), second);
    struct map_iter it = map_after(&m, "a");
    cr_assert_str_eq(it.key, "b");
    map_next(&it);
    cr_assert_eq(it.value, third);
    map_next(&it);
    cr_assert_null(it.value);
    cr_assert_eq(map_after(&m, "nobody").value, second);
    cr_assert_null(map_after(&m, "c").value);
    cr_assert_eq(map_del(&m, "a"), second);
    map_deinit(&m);
    cr_assert_eq(memory.used_bytes, 0);
}
