/*
 * Links between nodes, over a bus in memory: to which boot of a server does one lead?
 *
 * The other server is entries in the registry only; what the node under test keeps is read from its inside.
 */
#include <criterion/criterion.h>

#include <stdio.h>

#include "bus/bus_mem.h"
#include "node/state.h"
#include "node_quiet.h"

static struct alloc_budget memory;
static struct bus *bus;
static struct types *types;
static struct node *node;
static struct mono now = {1000000};
static const struct wall wall = {1700000000000};

static void run(int ms)
{
    for (int t = 0; t < ms; t += 10) {
        now = mono_add_ms(now, 10);
        bus_mem_tick(bus, now);
        node_turn(node, now, wall);
    }
}

static void setup(void)
{
    struct node_config config;
    alloc_budget_init(&memory, &alloc_libc, SIZE_MAX);
    bus = bus_mem_create(&memory.alloc, now, 0);
    types = types_create(&memory.alloc);
    node_config_defaults(&config);
    config.core.alloc = &memory.alloc;
    config.core.self.capacity = 10;
    config.types = types;
    id_set(&config.core.self.id, "a");
    node = node_create(&config, bus, &node_quiet, now, wall);
    cr_assert_not_null(node);
    run(500);
    cr_assert(core_may_serve(node->core));
}

static void teardown(void)
{
    node_destroy(node);
    types_destroy(types);
    bus_mem_destroy(bus);
    cr_assert_eq(memory.used_bytes, 0);
}

TestSuite(node_link, .init = setup, .fini = teardown, .timeout = 30);

static void entry(const char *boot, enum wire_server_status status)
{
    char text[256];
    int len = snprintf(text, sizeof(text),
                       "{\"boot\":\"%s\",\"address\":\"\",\"port\":0,\"region\":\"\",\"status\":\"%s\",\"rooms\":0,"
                       "\"players\":0,\"connections\":0,\"capacity\":10,\"load\":0.0,\"version\":\"1\",\"seen\":\"\","
                       "\"started\":\"\"}",
                       boot, status == WIRE_SERVER_STATUS_DOWN ? "down" : "up");
    cr_assert_eq(bus_kv_put(bus, 1, "servers", "b", BUS_ANY_REVISION, text, (size_t)len, 1000), 0);
    run(20);
}

static const char *boot_of_link(void)
{
    struct wire_link_leave m = {0};
    id_set(&m.session, "s");
    id_set(&m.room, "r");
    link_send(node, "b", WIRE_OP_LINK_LEAVE, &m);
    run(20);
    const struct link *l = map_get(&node->links, "b");
    return l ? l->boot.s : "none";
}

Test(node_link, a_server_that_left_and_came_back_gets_a_new_link)
{
    entry("01B", WIRE_SERVER_STATUS_UP);
    cr_assert_str_eq(boot_of_link(), "01B");
    cr_assert_eq(bus_kv_delete(bus, 1, "servers", "b", BUS_ANY_REVISION, 1000), 0);
    run(20);
    entry("01C", WIRE_SERVER_STATUS_UP);
    cr_assert_str_eq(boot_of_link(), "01C");
}

Test(node_link, a_link_outlives_news_of_older_boots_and_ends_with_its_own)
{
    entry("01B", WIRE_SERVER_STATUS_UP);
    cr_assert_str_eq(boot_of_link(), "01B");
    entry("01A", WIRE_SERVER_STATUS_DOWN);
    cr_assert_not_null(map_get(&node->links, "b"));
    entry("01B", WIRE_SERVER_STATUS_DOWN);
    cr_assert_null(map_get(&node->links, "b"));
}
