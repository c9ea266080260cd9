/*
 * See roomctl_field.h.
 */
#include "integration/roomctl_field.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "support/bus_driver.h"
#include "support/nats_harness.h"
#include "support/proc.h"
#include "wire/subject.h"

enum { OUT = 65536 };

static struct nats_harness nats;
static struct driver *bus;
static uint64_t token;
static pid_t nodes[FIELD_NODES];
static char listens[FIELD_NODES][64];
static const char *more_option, *more_value;
static char out[OUT];

int ctl(const char *words)
{
    char line[1024];
    snprintf(line, sizeof line, "%s --nats %s %s", ROOMCTL, nats.urls, words);
    FILE *f = popen(line, "r");
    size_t len = fread(out, 1, sizeof out - 1, f);
    out[len] = 0;
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

const char *ctl_out(void)
{
    return out;
}

json_t *ctl_json(const char *words, int want)
{
    int code = ctl(words);
    cr_assert_eq(code, want, "%s: %d: %s", words, code, out);
    json_t *root = json_loads(out, 0, NULL);
    cr_assert(root, "%s: %s", words, out);
    return root;
}

const char *ctl_ids(const char *words)
{
    static char text[400];
    json_t *root = ctl_json(words, 0), *one;
    size_t i;
    text[0] = 0;
    json_array_foreach(root, i, one)
    {
        const char *id = json_string_value(json_object_get(one, "id"));
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "",
                 id ? id : json_string_value(json_object_get(one, "room")));
    }
    json_decref(root);
    return text;
}

bool rooms_are(void *want)
{
    return strcmp(ctl_ids("rooms --json"), want) == 0;
}

bool all_holds(void *unused)
{
    return ctl("check --settle 10ms") == 0;
}

bool check_says(void *text)
{
    return ctl("check --settle 10ms") == 1 && strstr(out, text) != NULL;
}

static bool ready(void *arg)
{
    int i = *(int *)arg;
    char path[320], line[400];
    snprintf(path, sizeof path, "%s/n%d.log", nats.dir, i);
    FILE *f = fopen(path, "r");
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f))
        found = sscanf(line, "ready server=%*s listen=%63s", listens[i]) == 1;
    if (f)
        fclose(f);
    return found;
}

void field_start_node(int i)
{
    char id[16], log[320], urls[320], kept[320], option[40], value[100];
    snprintf(id, sizeof id, "n%d", i);
    snprintf(log, sizeof log, "%s/n%d.log", nats.dir, i);
    snprintf(urls, sizeof urls, "%s", nats.urls);
    snprintf(kept, sizeof kept, "%s/data", nats.dir);
    snprintf(option, sizeof option, "%s", more_option ? more_option : "");
    snprintf(value, sizeof value, "%s", more_option ? more_value : "");
    char *argv[] = {(char[]){ROOMD}, (char[]){"--server-id"}, id, (char[]){"--listen"}, (char[]){"127.0.0.1:0"},
                    (char[]){"--nats"}, urls, (char[]){"--data-dir"}, kept, more_option ? option : NULL, value, NULL};
    (void)remove(log); /* of an earlier start */
    nodes[i] = proc_spawn(argv, log);
    cr_assert(nodes[i] > 0);
    cr_assert(wait_until(ready, &i, FIELD_T), "node %s does not get ready", id);
}

const char *field_address(int i)
{
    return listens[i];
}

void field_kill_node(int i)
{
    proc_kill(nodes[i]);
    nodes[i] = 0;
}

void field_signal_node(int i, int number)
{
    kill(nodes[i], number);
}

const char *field_dir(void)
{
    return nats.dir;
}

void field_start(int count, const char *option, const char *value)
{
    struct err_detail detail = {""};
    struct bus_nats_config config = {.name = "test"};
    static const char *const variables[] = {"NATS_URL", "NATS_CONTEXT", "ROOMD_PREFIX", "XDG_CONFIG_HOME"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i]);
    cr_assert(nats_harness_start(&nats, 1, NULL));
    setenv("HOME", nats.dir, 1);
    config.urls = nats.urls;
    bus = calloc(1, sizeof *bus);
    cr_assert_eq(driver_open(bus, &config, &detail), 0, "%s", detail.text);
    cr_assert(driver_until(bus, &bus->up, 1, FIELD_T));
    more_option = option;
    more_value = value;
    for (int i = 0; i < count; i++)
        field_start_node(i);
}

void field_stop(void)
{
    for (int i = 0; i < FIELD_NODES; i++)
        proc_kill(nodes[i]);
    driver_close(bus);
    free(bus);
    nats_harness_stop(&nats);
}

static void done(int err)
{
    cr_assert_eq(err, 0);
    cr_assert(driver_wait(bus, token, FIELD_T));
}

void plant(const char *bucket, const char *key, const char *value)
{
    done(value ? bus_kv_put(bus->bus, ++token, bucket, key, BUS_ANY_REVISION, value, strlen(value), FIELD_T)
               : bus_kv_delete(bus->bus, ++token, bucket, key, BUS_ANY_REVISION, FIELD_T));
    cr_assert_eq(bus->done[token].result, BUS_OK);
}

const char *stored(const char *bucket, const char *key)
{
    done(bus_kv_get(bus->bus, ++token, bucket, key, FIELD_T));
    return bus->done[token].result == BUS_OK ? bus->done[token].data : "";
}

static const char *journal_of(const char *room, char subject[SUBJECT_SIZE])
{
    static char stream[40];
    snprintf(stream, sizeof stream, "ROOM_JOURNAL_%u", subject_journal_stream(room));
    subject_journal(subject, room);
    return stream;
}

void plant_journal(const char *room, uint64_t before)
{
    char subject[SUBJECT_SIZE];
    const char *stream = journal_of(room, subject);
    /* [before, [format, epoch, number, records]] */
    uint8_t message[] = {0x92, 0xcd, (uint8_t)(before >> 8), (uint8_t)before, 0x94, 1, 0, 1, 0x90};
    done(bus_log_last(bus->bus, ++token, stream, subject, FIELD_T));
    uint64_t last = bus->done[token].result == BUS_OK ? bus->done[token].revision : 0;
    done(bus_log_append(bus->bus, ++token, subject, last, message, sizeof message, FIELD_T));
    cr_assert_eq(bus->done[token].result, BUS_OK);
}

void purge_journal(const char *room)
{
    char subject[SUBJECT_SIZE];
    const char *stream = journal_of(room, subject);
    done(bus_log_purge(bus->bus, ++token, stream, subject, 0, FIELD_T));
    cr_assert_eq(bus->done[token].result, BUS_OK);
}

void ask_jetstream(const char *what, const char *body)
{
    char subject[120];
    snprintf(subject, sizeof subject, "$JS.API.%s", what);
    done(bus_request(bus->bus, ++token, subject, body, strlen(body), FIELD_T));
    cr_assert_eq(bus->done[token].result, BUS_OK);
    cr_assert_null(strstr(bus->done[token].data, "\"error\""), "%s: %s", what, bus->done[token].data);
}

static void on_welcome(void *arg, const char *server, const char *session, int resumed)
{
    ((struct player *)arg)->welcome = true;
}

static void on_joined(void *arg, const struct room_client_joined *joined)
{
    struct player *p = arg;
    p->joined = true;
    p->room = joined->room;
    p->state_len = joined->state_len < sizeof p->state ? joined->state_len : sizeof p->state;
    if (p->state_len)
        memcpy(p->state, joined->state, p->state_len);
}

static void on_left(void *arg, uint32_t room, const char *reason)
{
    ((struct player *)arg)->left = true;
}

static void on_sent(void *arg, uint32_t room, uint64_t n, const void *result, size_t len)
{
    ((struct player *)arg)->acknowledged = n;
}

static bool welcome(void *arg)
{
    struct player *p = arg;
    room_client_run_once(p->client, 20);
    return p->welcome;
}

static bool joined(void *arg)
{
    struct player *p = arg;
    room_client_run_once(p->client, 20);
    return p->joined;
}

bool player_left(void *arg)
{
    struct player *p = arg;
    room_client_run_once(p->client, 20);
    return p->left;
}

void enter(struct player *p, const char *name, int node, const char *type, const char *room)
{
    struct room_client_config config = {
        .servers = listens[node], .player = name, .can_relay = 1, .arg = p,
        .on = {.welcome = on_welcome, .joined = on_joined, .left = on_left, .sent = on_sent}};
    struct room_client_join join = {.type = type, .room_id = room};
    memset(p, 0, sizeof *p);
    cr_assert_eq(room_client_create(&config, &p->client), 0);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    cr_assert_eq(room_client_connect(p->client, now.tv_sec * 1000 + now.tv_nsec / 1000000), 0);
    cr_assert(wait_until(welcome, p, FIELD_T), "%s is not welcome", name);
    cr_assert_eq(room_client_join(p->client, &join, NULL), 0);
    cr_assert(wait_until(joined, p, FIELD_T), "%s cannot join", name);
}

struct sending {
    struct player *player;
    uint64_t n;
};

static bool acknowledged(void *arg)
{
    struct sending *s = arg;
    room_client_run_once(s->player->client, 20);
    return s->player->acknowledged >= s->n;
}

void send_value(struct player *p, const void *value, size_t len)
{
    struct sending s = {p, 0};
    cr_assert_eq(room_client_send(p->client, p->room, value, len, &s.n), 0);
    cr_assert(wait_until(acknowledged, &s, FIELD_T));
}
