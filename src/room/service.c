/*
 * What a room type may ask for: the functions of room/room_type.h.
 *
 * Called by types from inside their callbacks only. What would end a seat or the room is noted here and carried out by
 * run_settle() once the callback has returned.
 */
#include <string.h>

#include "base/log.h"
#include "room/journal.h"
#include "wire/mp_read.h"

static struct seat *seated(const struct room *r, const char *player)
{
    struct seat *seat = player ? seats_by_player(&r->seats, player) : NULL;
    return seat && seat->taken && !seat->kicked ? seat : NULL;
}

/* What links carry and every encoding can say: refused here, for players of this node and of others alike. */
static int check_data(const void *data, size_t len)
{
    if (len > ROOM_DATA_MAX)
        return ROOM_E_TOO_BIG;
    return mp_check(data, len, WIRE_VALUE_DEPTH, NULL) ? ROOM_E_BAD_FRAME : 0;
}

int room_send(struct room *room, const char *player, const void *data, size_t len)
{
    struct seat *seat = seated(room, player);
    int rc = seat ? check_data(data, len) : ROOM_E_NOT_FOUND;
    if (rc == 0 && seat->who)
        out_message(room, seat->who, seat->player, data, len);
    return rc;
}

int room_broadcast(struct room *room, const char *except, const char *from, const void *data, size_t len)
{
    struct seat *seat = seated(room, except);
    int rc = check_data(data, len);
    if (rc == 0 && room->seats.taken > (seat ? 1u : 0u))
        out_broadcast(room, seat ? seat->who : 0, from, data, len);
    return rc;
}

/* 0: it may ask the cluster for something. */
static int may_ask(struct room *r, const char *about)
{
    if (!r->recording || !about || !id_valid(about))
        return ROOM_E_INVALID;
    return r->asks >= ROOM_ASKS_MAX ? ROOM_E_FULL : 0;
}

int room_tell(struct room *room, const char *other, const void *data, size_t len, uint64_t request)
{
    int rc = may_ask(room, other);
    if (!rc)
        rc = check_data(data, len);
    if (rc)
        return rc;
    room->asks++;
    out_tell(room, other, request, data, len);
    return 0;
}

int room_tell_player(struct room *room, const char *player, const void *data, size_t len, uint64_t request)
{
    int rc = may_ask(room, player);
    if (!rc)
        rc = check_data(data, len);
    if (rc)
        return rc;
    room->asks++;
    out_ask(room, &(struct host_ask){.kind = HOST_ASK_PLAYER, .target = player, .request = request, .data = data, .len = len});
    return 0;
}

int room_publish(struct room *room, const char *topic, const void *data, size_t len)
{
    int rc = topics_valid(topic, false) ? may_ask(room, room->id) : ROOM_E_INVALID;
    if (!rc)
        rc = check_data(data, len);
    if (rc)
        return rc;
    room->asks++;
    out_ask(room, &(struct host_ask){.kind = HOST_ASK_PUBLISH, .target = topic, .data = data, .len = len});
    return 0;
}

int room_request(struct room *room, const char *service, const void *data, size_t len, int64_t timeout_ms, uint64_t request)
{
    struct host_ask ask = {.kind = HOST_ASK_SERVICE, .target = service, .request = request, .data = data, .len = len,
                           .limit_ms = timeout_ms};
    int rc = open_sound(&ask) ? may_ask(room, service) : ROOM_E_INVALID;
    if (!rc)
        rc = len > ROOM_ASK_DATA_MAX ? ROOM_E_TOO_BIG : check_data(data, len);
    if (!rc)
        rc = open_add(room, &ask);
    room->asks += rc == 0;
    return rc;
}

static int ask_shared(struct room *r, const struct host_ask *ask)
{
    int rc = open_sound(ask) ? may_ask(r, r->id) : ROOM_E_INVALID;
    if (!rc)
        rc = open_add(r, ask);
    r->asks += rc == 0;
    return rc;
}

int room_shared_get(struct room *room, const char *key, uint64_t request)
{
    return ask_shared(room, &(struct host_ask){.kind = HOST_ASK_SHARED, .verb = HOST_SHARED_GET, .target = key,
                                               .request = request});
}

int room_shared_set(struct room *room, const char *key, const void *data, size_t len, int64_t ttl_ms, uint64_t expect,
                    uint64_t request)
{
    int rc = len > ROOM_ASK_DATA_MAX ? ROOM_E_TOO_BIG : room_is_nil(data, len) ? ROOM_E_INVALID : check_data(data, len);
    struct host_ask ask = {.kind = HOST_ASK_SHARED, .verb = HOST_SHARED_SET, .target = key, .request = request, .data = data,
                           .len = len, .limit_ms = ttl_ms, .expect = expect};
    return rc ? rc : ask_shared(room, &ask);
}

int room_shared_delete(struct room *room, const char *key, uint64_t expect, uint64_t request)
{
    return ask_shared(room, &(struct host_ask){.kind = HOST_ASK_SHARED, .verb = HOST_SHARED_DELETE, .target = key,
                                               .request = request, .expect = expect});
}

int room_shared_add(struct room *room, const char *key, int64_t by, int64_t ttl_ms, uint64_t request)
{
    return ask_shared(room, &(struct host_ask){.kind = HOST_ASK_SHARED, .verb = HOST_SHARED_ADD, .target = key,
                                               .request = request, .by = by, .limit_ms = ttl_ms});
}

static int ask_member(struct room *r, enum host_shared_verb verb, const char *key, const char *member, int64_t ttl_ms,
                      uint64_t request)
{
    size_t len = member ? strnlen(member, ROOM_SHARED_MEMBER_MAX + 1) : 0;
    if (len > ROOM_SHARED_MEMBER_MAX)
        return ROOM_E_TOO_BIG;
    return ask_shared(r, &(struct host_ask){.kind = HOST_ASK_SHARED, .verb = verb, .target = key, .request = request,
                                            .data = member, .len = len, .limit_ms = ttl_ms});
}

int room_shared_insert(struct room *room, const char *key, const char *member, int64_t ttl_ms, uint64_t request)
{
    return ask_member(room, HOST_SHARED_INSERT, key, member, ttl_ms, request);
}

int room_shared_remove(struct room *room, const char *key, const char *member, uint64_t request)
{
    return ask_member(room, HOST_SHARED_REMOVE, key, member, 0, request);
}

static int ask_lock(struct room *r, enum lock_verb verb, const char *name, int64_t ttl_ms, int64_t wait_ms, uint64_t token,
                    uint64_t request)
{
    struct host_lock_ask ask = {.verb = verb, .ttl_ms = ttl_ms, .wait_ms = wait_ms, .token = token, .request = request};
    bool ttl_ok = verb == LOCK_RELEASE || (ttl_ms >= LOCK_TTL_MIN_MS && ttl_ms <= LOCK_TTL_MAX_MS);
    int rc = may_ask(r, name);
    if (!rc && (!ttl_ok || wait_ms < 0 || wait_ms > LOCK_WAIT_MAX_MS || (verb != LOCK_ACQUIRE && !token)))
        rc = ROOM_E_INVALID;
    if (rc)
        return rc;
    r->asks++;
    id_set(&ask.name, name);
    out_lock(r, &ask);
    return 0;
}

int room_lock_acquire(struct room *room, const char *name, int64_t ttl_ms, int64_t wait_ms, uint64_t request)
{
    return ask_lock(room, LOCK_ACQUIRE, name, ttl_ms, wait_ms, 0, request);
}

int room_lock_renew(struct room *room, const char *name, uint64_t token, int64_t ttl_ms, uint64_t request)
{
    return ask_lock(room, LOCK_RENEW, name, ttl_ms, 0, token, request);
}

int room_lock_release(struct room *room, const char *name, uint64_t token, uint64_t request)
{
    return ask_lock(room, LOCK_RELEASE, name, 0, 0, token, request);
}

/* What the running callback has recorded: it goes into one batch with the result, and that must not grow too big. */
static size_t recorded(const struct room *r)
{
    return r->journal && r->recording ? r->journal->open_changes : 0;
}

int room_record(struct room *room, const void *data, size_t len)
{
    const struct buf *reply = room->reply;
    size_t result = reply ? reply->len - room->reply_at : 0;
    if (!room->def->impl->apply)
        return ROOM_E_UNSUPPORTED;
    if (!room->recording)
        return ROOM_E_INVALID;
    int rc = check_data(data, len);
    if (rc || !room->journal || !room->running)
        return rc;
    if (len > ROOM_DATA_MAX - result - recorded(room))
        return ROOM_E_TOO_BIG;
    return journal_change(room, data, len) ? 0 : ROOM_E_NO_MEMORY;
}

int room_reply(struct room *room, const void *data, size_t len)
{
    struct buf *out = room->reply;
    if (!out)
        return ROOM_E_INVALID;
    if (!room->reply_error && len > room->reply_max - (out->len - room->reply_at) - recorded(room))
        room->reply_error = ROOM_E_TOO_BIG;
    else if (!room->reply_error && !buf_write(out, data, len))
        room->reply_error = out->len > out->max || len > out->max - out->len ? ROOM_E_TOO_BIG : ROOM_E_NO_MEMORY;
    return room->reply_error;
}

void room_set_user(struct room *room, void *user)
{
    room->user = user;
}

void *room_user(const struct room *room)
{
    return room->user;
}

/* A refusal of the room's own limit ends the room; one of the machine does not. */
static void *noted(struct room *r, void *p, size_t old, size_t size)
{
    if (!p && size > r->budget.max_bytes - (r->budget.used_bytes - old))
        r->over_memory = true;
    return p;
}

void *room_alloc(struct room *room, size_t size)
{
    size += size == 0;
    return noted(room, alloc_get(&room->budget.alloc, size), 0, size);
}

void *room_realloc(struct room *room, void *ptr, size_t old, size_t size)
{
    size += size == 0;
    old = ptr ? old + (old == 0) : 0;
    return noted(room, alloc_resize(&room->budget.alloc, ptr, old, size), old, size);
}

void room_free(struct room *room, void *ptr, size_t size)
{
    alloc_put(&room->budget.alloc, ptr, size + (size == 0));
}

static void set_lock(struct room *r, bool locked)
{
    r->dirty |= r->locked != locked;
    r->locked = locked;
}

void room_lock(struct room *room)
{
    set_lock(room, true);
}

void room_unlock(struct room *room)
{
    set_lock(room, false);
}

int room_set_metadata(struct room *room, const void *data, size_t len)
{
    uint8_t *copy = NULL;
    if (len > ROOM_METADATA_MAX)
        return ROOM_E_TOO_BIG;
    if (len) {
        if (mp_check(data, len, WIRE_VALUE_DEPTH, NULL) != 0)
            return ROOM_E_BAD_FRAME;
        copy = room_alloc(room, len);
        if (!copy)
            return ROOM_E_NO_MEMORY;
        memcpy(copy, data, len);
    }
    alloc_put(&room->budget.alloc, room->metadata, room->metadata_len);
    room->metadata = copy;
    room->metadata_len = (unsigned)len;
    room->metadata_version++;
    room->dirty = true;
    return 0;
}

int room_kick(struct room *room, const char *player, const char *reason)
{
    char cut[ROOM_REASON_MAX + 1];
    struct seat *seat = seated(room, player);
    if (!seat)
        return ROOM_E_NOT_FOUND;
    run_reason(cut, reason, "kicked");
    seat->kick = alloc_str(&room->budget.alloc, cut);
    seat->kicked = true;
    room->kicks = true;
    return 0;
}

void room_close(struct room *room, const char *reason)
{
    char cut[ROOM_REASON_MAX + 1];
    run_reason(cut, reason, "closed");
    if (!room->closing)
        room->reason = alloc_str(room->host->config.alloc, cut);
    room->closing = true;
}

const char *room_id(const struct room *room)
{
    return room->id;
}

unsigned room_player_count(const struct room *room)
{
    return room->seats.taken;
}

unsigned room_max_players(const struct room *room)
{
    return room->seats.max;
}

const char *room_player(const struct room *room, unsigned i)
{
    for (const struct seat *seat = room->seats.head; seat; seat = seat->next)
        if (seat->taken && i-- == 0)
            return seat->player;
    return NULL;
}

int64_t room_now_ms(const struct room *room)
{
    return room->running ? mono_diff_ms(room->started, room->host->now) : room->replay_ms;
}

uint64_t room_random(struct room *room, uint64_t n)
{
    return n ? rng_below(&room->rng, n) : 0;
}

void room_log(const struct room *room, enum room_log_level level, const char *text)
{
    static const enum log_level levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR};
    enum log_level at = level <= ROOM_LOG_ERROR ? levels[level] : LOG_ERROR;
    char clean[501];
    size_t n = 0;
    for (; n < sizeof(clean) - 1 && text[n]; n++)
        clean[n] = (unsigned char)text[n] < ' ' || text[n] == 127 || text[n] == '"' || text[n] == '\\' ? ' ' : text[n];
    clean[n] = '\0';
    LOG_AT(at, "room type says", "room=%s type=%s text=\"%s\"", room->id, room->def->name.s, clean);
}
