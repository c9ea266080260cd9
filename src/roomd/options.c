/* See options.h. */
#include "roomd/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum kind { TEXT, WORD, BOOL, NUMBER, DURATION, LIST };

struct row {
    const char *name;
    enum kind kind;
    size_t offset, count_offset;
    const char *fallback;
    int64_t min, max;
    const char *value, *help;
};

#define T(name, field, fallback, value, help) {name, TEXT, offsetof(struct options, field), 0, fallback, 0, 0, value, help}
#define W(name, field, fallback, words, help) {name, WORD, offsetof(struct options, field), 0, fallback, 0, 0, words, help}
#define B(name, field, help)                  {name, BOOL, offsetof(struct options, field), 0, "false", 0, 1, "true|false", help}
#define N(name, field, fallback, min, max, help) \
    {name, NUMBER, offsetof(struct options, field), 0, fallback, min, max, "N", help}
#define D(name, field, fallback, min, max, help) \
    {name, DURATION, offsetof(struct options, field), 0, fallback, min, max, "TIME", help}
#define L(name, field, count, limit, value, help) \
    {name, LIST, offsetof(struct options, field), offsetof(struct options, count), "", 0, limit, value, help}

static const struct row rows[] = {
    T("server-id", server_id, "", "ID", "name of this node in the cluster (default: host name and port)"),
    T("listen", listen, "127.0.0.1:7400", "HOST:PORT", "where players connect, TCP and WebSocket; port 0 takes a free one"),
    T("advertise", advertise, "", "HOST:PORT",
      "address that players on other nodes are redirected to (default: --listen, unless that is a wildcard)"),
    T("admin", admin, "", "HOST:PORT",
      "where operators and backends reach this node by HTTP; port 0 takes a free one (default: nowhere)"),
    T("admin-token-file", admin_token_file, "", "FILE",
      "HTTP requests must bear the token in this file; read at the start, and a must unless --admin is on loopback"),
    T("token-keys", token_keys, "", "FILE",
      "players must show a token (JWT) signed with a key of this JWK set; read again when it changes"),
    T("token-audience", token_audience, "", "NAME", "tokens must name this in `aud`"),
    D("token-leeway", token_leeway_ms, "30s", 0, 600000, "how far the clock of who makes tokens may be off"),
    W("login-policy", login_policy, "replace", "replace|reject",
      "a second login of a player takes the place of the first, or is refused while the first is connected; the same on all nodes"),
    B("insecure-no-login", insecure_no_login,
      "without --token-keys, listen for players from elsewhere all the same: anybody may play under any name"),
    B("standalone", standalone, "one node without NATS; CLUSTER_ENABLED=false in the environment does the same"),
    T("nats", nats, "nats://127.0.0.1:4222", "URLS", "NATS servers, comma separated"),
    T("creds", creds, "", "FILE", "NATS credentials file"),
    T("tls-ca", tls_ca, "", "FILE", "certificates that the NATS server's is checked against; turns TLS on"),
    T("tls-cert", tls_cert, "", "FILE", "certificate shown to NATS"),
    T("tls-key", tls_key, "", "FILE", "its key"),
    T("prefix", prefix, "", "WORD", "put before all subjects and buckets: several clusters on one NATS"),
    T("data-dir", data_dir, "", "DIR",
      "this node's own copy of its rooms is in DIR/<server-id> (default: $STATE_DIRECTORY, $XDG_STATE_HOME/roomd, "
      "~/.local/state/roomd or /var/lib/roomd, the first there is); none: no room outlives its node"),
    D("snapshot-interval", snapshot_ms, "30s", 0, 86400000,
      "a changed room is saved at least so often; 0: only when its journal grows, it is moved, or this node stops"),
    D("snapshot-ttl", snapshot_ttl_ms, "10080m", 0, 2592000000, "life of a snapshot in NATS that nobody renews; 0: for ever"),
    W("failover", failover, "on", "on|off", "take over rooms of dead nodes; off: theirs wait for them, or end if they cannot be kept"),
    D("drain-timeout", drain_ms, "30s", 0, 3600000,
      "on SIGTERM rooms and players are moved to other nodes for so long; 0: rooms are saved and left to them at once"),
    D("grace", grace_ms, "30s", 0, 3600000, "a session outlives its connection for so long, and a seat its player"),
    W("replicas", replicas, "auto", "auto|1|3|5", "copies of the registries; auto: 3 where NATS has three servers"),
    T("region", region, "", "NAME", "where this node is, for --strategy region"),
    N("capacity", capacity, "10000", 1, 1000000, "rooms on this node at most"),
    L("room-type", room_types, room_type_count, OPTIONS_LIST, "FILE", "load a room type from a shared object; can be repeated"),
    L("type", types, type_count, OPTIONS_LIST, "NAME=TYPE[,KEY=VALUE...]",
      "a named variant of a type: max_players, tick_ms, durability, failover, private, auto_dispose, on_isolation; can be repeated"),
    L("queue", queues, queue_count, OPTIONS_LIST, "NAME=TYPE,KEY=VALUE...",
      "a matchmaking queue whose matches get a room of TYPE: size=N or teams=AxB, equal=PROPERTY, range=PROPERTY:WITHIN[:PER_SECOND[:MOST]], "
      "max_wait=TIME (2m; 0: for ever), confirm=TIME (0: nobody is asked); the same on all nodes; can be repeated"),
    L("route", routes, route_count, OPTIONS_ROUTES, "NAME=SERVICE[,KEY=VALUE...]",
      "requests of players that name NAME go to a backend service on NATS: to=one|all|named|INSTANCE, timeout=TIME (2s), "
      "login=yes|no, rate=N/s of one client; can be repeated"),
    T("service-hook", service_hook, "", "FILE", "load a hook around requests to services from a shared object"),
    N("rate-requests", rate_requests, "50", 0, 1000000,
      "requests to services of one client in a second, twice as many at once; 0: no limit"),
    N("inbox-messages", inbox_messages, "200", 1, 10000,
      "pushes kept for one player; beyond it the oldest are dropped, and he is told how many"),
    N("inbox-bytes", inbox_bytes, "262144", 65536, 16777216, "the same in bytes"),
    D("inbox-ttl", inbox_ttl_ms, "10080m", 1000, 2592000000,
      "how long they are kept (this and --inbox-messages: as the first node of the cluster had it)"),
    W("strategy", strategy, "least-rooms",
      "round-robin|least-rooms|least-players|random|weighted|load|two-choices|region|latency", "where new rooms go"),
    B("prefer-local", prefer_local, "create rooms on the node the player is connected to while it has room"),
    W("routing", routing, "auto", "auto|redirect|relay", "how a player who can do both reaches a room on another node; auto: as it prefers"),
    D("heartbeat-interval", heartbeat_ms, "5s", 500, 60000, "how often this node's registry entry is written"),
    D("server-ttl", server_ttl_ms, "30s", 3000, 3600000, "life of a registry entry that nobody writes"),
    D("room-ttl", room_ttl_ms, "30s", 0, 86400000, "an empty room ends after this time; 0: never"),
    D("seat-ttl", seat_ttl_ms, "15s", 1000, 600000, "life of a seat ticket"),
    D("hello-timeout", hello_timeout_ms, "10s", 100, 600000, "a connection that has not said hello by then is closed"),
    D("idle-timeout", idle_timeout_ms, "0", 0, 86400000, "a connection that says nothing for so long is closed; 0: never"),
    N("max-connections", max_connections, "10000", 1, 1000000, "connections at most"),
    N("max-connections-per-address", max_per_address, "0", 0, 1000000, "the same for one address; 0: no limit"),
    N("max-frame", max_frame, "65536", 256, 16777216, "bytes of one frame from a client"),
    N("send-queue", send_queue, "1048576", 65536, 1073741824, "unsent bytes after which a slow client is closed"),
    N("room-memory", room_memory, "8388608", 65536, 1073741824, "bytes one room may hold; beyond it the room ends"),
    N("rooms-per-session", session_rooms, "16", 1, 1024, "rooms one player may be in at once"),
    W("log-level", log_level, "info", "debug|info|warn|error", "least severe lines to write to standard error"),
    W("log-format", log_format, "logfmt", "logfmt|json", "shape of the lines"),
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static int parse_time(const char *s, int64_t *ms)
{
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    int64_t unit = strcmp(end, "ms") == 0 || !*end ? 1 : strcmp(end, "s") == 0 ? 1000 : strcmp(end, "m") == 0 ? 60000 : 0;
    if (end == s || errno || !unit || v < 0 || v > INT64_MAX / 60000)
        return -1;
    *ms = v * unit;
    return 0;
}

/* Is it one of the words in "this|that|other"? */
static bool one_of(const char *words, const char *value)
{
    size_t len = strlen(value);
    for (const char *at = words; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (len && strcspn(at, "|") == len && memcmp(at, value, len) == 0)
            return true;
    return false;
}

static int set(struct options *o, const struct row *r, const char *value, const char *source, struct err_detail *detail)
{
    char *field = (char *)o + r->offset;
    int64_t v = 0;
    char *end = NULL;
    switch (r->kind) {
    case LIST: {
        size_t *count = (size_t *)(void *)((char *)o + r->count_offset);
        if (*count == (size_t)r->max)
            return err_set(detail, ROOM_E_TOO_BIG, "%s: at most %d --%s", source, (int)r->max, r->name);
        field += (*count)++ * OPTIONS_TEXT;
    }
        /* fall through */
    case TEXT:
    case WORD:
        if (r->kind == WORD && !one_of(r->value, value))
            return err_set(detail, ROOM_E_INVALID, "%s: --%s is '%.100s', wanted %s", source, r->name, value, r->value);
        if (strlen(value) >= OPTIONS_TEXT)
            return err_set(detail, ROOM_E_TOO_BIG, "%s: --%s is longer than %d characters", source, r->name,
                           OPTIONS_TEXT - 1);
        strcpy(field, value);
        return 0;
    case BOOL:
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return err_set(detail, ROOM_E_INVALID, "%s: --%s is '%s', wanted true or false", source, r->name, value);
        *(bool *)(void *)field = value[0] == 't';
        return 0;
    case NUMBER:
        errno = 0;
        v = strtoll(value, &end, 10);
        if (end == value || *end || errno)
            return err_set(detail, ROOM_E_INVALID, "%s: --%s is '%s', wanted a whole number", source, r->name, value);
        break;
    case DURATION:
        if (parse_time(value, &v))
            return err_set(detail, ROOM_E_INVALID, "%s: --%s is '%s', wanted a time like 500ms, 5s or 2m", source,
                           r->name, value);
        break;
    }
    if (v < r->min || v > r->max)
        return err_set(detail, ROOM_E_INVALID, "%s: --%s is '%s', wanted %lld to %lld%s", source, r->name, value,
                       (long long)r->min, (long long)r->max, r->kind == DURATION ? " ms" : "");
    *(int64_t *)(void *)field = v;
    return 0;
}

static const struct row *find(const char *name, size_t len)
{
    for (int i = 0; i < ROWS; i++)
        if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
            return &rows[i];
    return NULL;
}

static char *trim(char *s)
{
    s += strspn(s, " \t");
    size_t len = strlen(s);
    while (len && strchr(" \t\r\n", s[len - 1]))
        s[--len] = 0;
    return s;
}

/* Lines `key = value`; # begins a comment. */
static int read_file(struct options *o, const char *path, struct err_detail *detail)
{
    char line[2 * OPTIONS_TEXT], source[OPTIONS_TEXT + 32];
    FILE *f = fopen(path, "r");
    if (!f)
        return err_set(detail, ROOM_E_NOT_FOUND, "cannot read config file '%s': %s", path, strerror(errno));
    int rc = 0;
    for (int number = 1; !rc && fgets(line, sizeof(line), f); number++) {
        char *key = trim(line), *value = strchr(key, '=');
        snprintf(source, sizeof(source), "%.400s:%d", path, number);
        if (!*key || *key == '#')
            continue;
        if (!value) {
            rc = err_set(detail, ROOM_E_INVALID, "%s: wanted key = value", source);
            break;
        }
        *value++ = 0;
        key = trim(key);
        const struct row *r = find(key, strlen(key));
        rc = r ? set(o, r, trim(value), source, detail)
               : err_set(detail, ROOM_E_INVALID, "%s: unknown key '%s'; roomd --print-config lists them", source, key);
    }
    fclose(f);
    return rc;
}

static const char *env_name(const struct row *r, char name[64])
{
    snprintf(name, 64, "ROOMD_%s", r->name);
    for (char *p = name; *p; p++)
        *p = *p == '-' ? '_' : *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
    return name;
}

static int read_env(struct options *o, struct err_detail *detail)
{
    extern char **environ;
    char name[64];
    for (int i = 0; i < ROWS; i++) {
        const char *value = getenv(env_name(&rows[i], name));
        int rc = value ? set(o, &rows[i], value, name, detail) : 0;
        if (rc)
            return rc;
    }
    for (char **e = environ; *e; e++) {
        if (strncmp(*e, "ROOMD_", 6) != 0)
            continue;
        size_t len = strcspn(*e, "=");
        /* ROOMD_NATS_SERVER and its kin belong to the project's own tools. */
        bool known = strncmp(*e, "ROOMD_CONFIG=", 13) == 0 || strncmp(*e, "ROOMD_NATS_SERVER", 17) == 0 ||
                     strncmp(*e, "ROOMD_CACHE=", 12) == 0;
        for (int i = 0; i < ROWS && !known; i++)
            known = strlen(env_name(&rows[i], name)) == len && strncmp(*e, name, len) == 0;
        if (!known)
            return err_set(detail, ROOM_E_INVALID, "unknown environment variable '%.*s'; roomd --help lists them",
                           (int)len, *e);
    }
    const char *cluster = getenv("CLUSTER_ENABLED");
    if (cluster && strcmp(cluster, "false") == 0)
        o->standalone = true;
    return 0;
}

static int read_flags(struct options *o, int argc, char **argv, enum options_action *action, struct err_detail *detail)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0)
            *action = OPTIONS_HELP;
        else if (strcmp(a, "--version") == 0)
            *action = OPTIONS_VERSION;
        else if (strcmp(a, "--print-config") == 0)
            *action = OPTIONS_PRINT;
        if (*action == OPTIONS_HELP || *action == OPTIONS_VERSION)
            return 0;
        if (strcmp(a, "--print-config") == 0)
            continue;
        const char *eq = strchr(a, '=');
        size_t len = strncmp(a, "--", 2) == 0 ? (eq ? (size_t)(eq - a) : strlen(a)) - 2 : 0;
        const struct row *r = len ? find(a + 2, len) : NULL;
        bool config = len == 6 && memcmp(a + 2, "config", 6) == 0;
        if (!r && !config)
            return err_set(detail, ROOM_E_INVALID, "unknown option '%s'; roomd --help lists them", a);
        const char *value = eq ? eq + 1 : NULL;
        if (!value && r && r->kind == BOOL)
            value = "true";
        if (!value && ++i == argc)
            return err_set(detail, ROOM_E_INVALID, "--%.*s needs a value", (int)len, a + 2);
        if (!value)
            value = argv[i];
        int rc = config ? 0 : set(o, r, value, "command line", detail);
        if (rc)
            return rc;
    }
    return 0;
}

static const char *config_path(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0)
            return argv[i] + 9;
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
            return argv[i + 1];
    }
    return getenv("ROOMD_CONFIG");
}

/* What a single option cannot show to be wrong. */
static int check(const struct options *o, struct err_detail *detail)
{
    const struct {
        const char *name, *path;
    } files[] = {{"creds", o->creds}, {"tls-ca", o->tls_ca}, {"tls-cert", o->tls_cert}, {"tls-key", o->tls_key},
                 {"token-keys", o->token_keys}, {"admin-token-file", o->admin_token_file}};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (files[i].path[0] && access(files[i].path, R_OK) != 0)
            return err_set(detail, ROOM_E_NOT_FOUND, "--%s is '%.200s', which cannot be read: %s", files[i].name,
                           files[i].path, strerror(errno));
    if (!o->tls_cert[0] != !o->tls_key[0])
        return err_set(detail, ROOM_E_INVALID, "--tls-cert and --tls-key belong together: give both or none");
    if (2 * o->heartbeat_ms > o->server_ttl_ms)
        return err_set(detail, ROOM_E_INVALID,
                       "--heartbeat-interval %lld ms is more than half of --server-ttl %lld ms: the entry would expire "
                       "between two heartbeats",
                       (long long)o->heartbeat_ms, (long long)o->server_ttl_ms);
    return 0;
}

int options_read(struct options *o, int argc, char **argv, enum options_action *action, struct err_detail *detail)
{
    memset(o, 0, sizeof(*o));
    *action = OPTIONS_RUN;
    int rc = 0;
    for (int i = 0; i < ROWS && !rc; i++)
        if (rows[i].kind != LIST)
            rc = set(o, &rows[i], rows[i].fallback, "default", detail);
    const char *path = config_path(argc, argv);
    if (!rc && path)
        rc = read_file(o, path, detail);
    if (!rc)
        rc = read_env(o, detail);
    if (!rc)
        rc = read_flags(o, argc, argv, action, detail);
    return rc || *action == OPTIONS_HELP || *action == OPTIONS_VERSION ? rc : check(o, detail);
}

void options_help(void)
{
    char env[64];
    printf("Usage: roomd [OPTION...]\n\nA node of a game-room cluster on NATS. With no options it joins the cluster on this "
           "machine's NATS.\n\nEvery option can also be an environment variable (ROOMD_LISTEN for --listen) or a line\n"
           "`listen = 0.0.0.0:7400` in the file given with --config. A flag overrules the environment, and that the file; what can be\n"
           "repeated is gathered from all three. TIME is 500ms, 5s or 2m.\n\n");
    for (int i = 0; i < ROWS; i++) {
        printf("  --%s %s\n      %s", rows[i].name, rows[i].value, rows[i].help);
        if (rows[i].fallback[0] && rows[i].kind != BOOL)
            printf(" (default: %s)", rows[i].fallback);
        printf("  [%s]\n", env_name(&rows[i], env));
    }
    printf("  --config FILE\n      read options from a file first  [ROOMD_CONFIG]\n"
           "  --print-config, --version, --help\n\nExample: roomd --listen 0.0.0.0:7400 --advertise play1.example.com:7400 "
           "--nats nats://n1:4222,nats://n2:4222\n");
}

void options_print(const struct options *o)
{
    for (int i = 0; i < ROWS; i++) {
        const char *field = (const char *)o + rows[i].offset;
        switch (rows[i].kind) {
        case TEXT:
        case WORD:
            printf("%s = %s\n", rows[i].name, field);
            break;
        case BOOL:
            printf("%s = %s\n", rows[i].name, *(const bool *)(const void *)field ? "true" : "false");
            break;
        case NUMBER:
            printf("%s = %lld\n", rows[i].name, (long long)*(const int64_t *)(const void *)field);
            break;
        case DURATION:
            printf("%s = %lldms\n", rows[i].name, (long long)*(const int64_t *)(const void *)field);
            break;
        case LIST: {
            size_t count = *(const size_t *)(const void *)((const char *)o + rows[i].count_offset);
            for (size_t k = 0; k < count; k++)
                printf("%s = %s\n", rows[i].name, field + k * OPTIONS_TEXT);
            if (count == 0)
                printf("# %s = %s\n", rows[i].name, rows[i].value); /* an empty line of it would be refused */
            break;
        }
        }
    }
}
