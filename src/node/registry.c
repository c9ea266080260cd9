/*
 * What this node writes for everybody to read: registry entries, events, beats - all JSON - and back.
 *
 * Decides: how the core's structs look on the bus. An entry that does not fit its schema is treated as absent by the
 * caller; nothing from the bus is trusted to be well-formed.
 */
#include "node/state.h"

static void copy_str(char *to, size_t size, struct wire_str s)
{
    size_t len = s.len < size ? s.len : size - 1;
    if (s.data)
        memcpy(to, s.data, len);
    to[s.data ? len : 0] = 0;
}

static bool copy_boot(char to[ULID_SIZE], const struct id *from)
{
    if (strlen(from->s) >= ULID_SIZE)
        return false;
    memcpy(to, from->s, strlen(from->s) + 1);
    return true;
}

static uint32_t count32(int64_t v)
{
    return v < 0 ? 0 : v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

uint64_t registry_queue_bit(const char *queue)
{
    return UINT64_C(1) << (id_hash(queue, 0) & 63);
}

bool registry_server(struct server_info *out, const char *id, const uint8_t *data, size_t len, struct buf *scratch)
{
    struct wire_server_entry e;
    *out = (struct server_info){0};
    if (!id_set(&out->id, id) || wire_server_entry_from_json(&e, (const char *)data, len, scratch, NULL) ||
        !copy_boot(out->boot, &e.boot) || !copy_boot(out->down_by, &e.down_by))
        return false;
    copy_str(out->address, sizeof(out->address), e.address);
    copy_str(out->region, sizeof(out->region), e.region);
    copy_str(out->version, sizeof(out->version), e.version);
    out->port = (uint16_t)e.port;
    out->status = (enum server_status)e.status;
    out->rooms = count32(e.rooms);
    out->players = count32(e.players);
    out->connections = count32(e.connections);
    out->capacity = count32(e.capacity);
    out->load = e.load;
    for (uint32_t i = 0; i < e.queues.count; i++) {
        struct id queue;
        if (id_set_n(&queue, e.queues.items[i].data, e.queues.items[i].len))
            out->queues |= registry_queue_bit(queue.s);
    }
    return true;
}

bool registry_room(struct room_info *out, const char *id, const uint8_t *data, size_t len, struct buf *scratch,
                   struct wire_raw *metadata)
{
    struct wire_room_entry e;
    *out = (struct room_info){0};
    if (metadata)
        *metadata = (struct wire_raw){0};
    if (!id_set(&out->id, id) || wire_room_entry_from_json(&e, (const char *)data, len, scratch, NULL) ||
        !copy_boot(out->boot, &e.boot))
        return false;
    copy_str(out->nonce, sizeof(out->nonce), e.nonce);
    out->type = e.type;
    out->owner = e.owner;
    out->epoch = (uint64_t)e.epoch;
    out->players = count32(e.players);
    out->seats = count32(e.seats);
    out->seats_version = (uint64_t)e.seats_version;
    out->max_players = count32(e.max_players);
    out->locked = e.locked;
    out->is_private = e.private;
    out->durability = (uint8_t)(e.durability - WIRE_DURABILITY_NONE);
    out->state = (enum room_state)e.state;
    out->saved_epoch = (uint64_t)e.saved_epoch;
    out->saved_version = (uint64_t)e.saved_version;
    out->restores = (uint8_t)(e.restores < 0 ? 0 : e.restores > UINT8_MAX ? UINT8_MAX : e.restores);
    (void)time_from_rfc3339(e.created.data, e.created.len, &out->created); /* shown to people, nothing rests on it */
    if (metadata)
        *metadata = e.metadata;
    return true;
}

int registry_put_server(struct node *n, uint64_t token, uint64_t expected, const struct server_info *info)
{
    char seen[TIME_RFC3339_SIZE], started[TIME_RFC3339_SIZE];
    time_rfc3339(n->wall, seen);
    time_rfc3339(n->started, started);
    struct wire_server_entry e = {.address = wire_str(info->address), .port = info->port,
                                  .region = wire_str(info->region), .status = (enum wire_server_status)info->status,
                                  .rooms = info->rooms, .players = info->players, .connections = info->connections,
                                  .capacity = info->capacity, .load = info->load, .version = wire_str(info->version),
                                  .seen = wire_str(seen), .started = wire_str(started)};
    id_set(&e.boot, info->boot);
    id_set(&e.down_by, info->down_by);
    bool own = n->config.queues && strcmp(info->id.s, core_self(n->core)->id.s) == 0;
    for (; own && e.queues.count < n->config.queues->count; e.queues.count++)
        e.queues.items[e.queues.count] = wire_str(n->config.queues->items[e.queues.count].name.s);
    buf_reset(&n->scratch);
    int rc = wire_server_entry_to_json(&e, &n->scratch);
    return rc ? rc
              : bus_kv_put(n->bus, token, "servers", info->id.s, expected, n->scratch.data, n->scratch.len,
                           n->config.core.kv_ms);
}

int registry_put_room(struct node *n, uint64_t token, uint64_t expected, const struct room_info *info)
{
    char created[TIME_RFC3339_SIZE];
    time_rfc3339(info->created, created);
    const struct room *room = host_find(n->host, info->id.s);
    size_t meta_len = 0;
    const void *meta = room ? host_room_metadata(room, &meta_len) : NULL;
    struct wire_room_entry e = {.type = info->type, .owner = info->owner, .epoch = (int64_t)info->epoch,
                                .nonce = wire_str(info->nonce), .players = info->players, .seats = info->seats,
                                .seats_version = (int64_t)info->seats_version, .max_players = info->max_players,
                                .locked = info->locked, .private = info->is_private,
                                .durability = (enum wire_durability)(info->durability + WIRE_DURABILITY_NONE),
                                .state = (enum wire_room_state)info->state, .metadata = {meta, (uint32_t)meta_len},
                                .created = wire_str(created), .restores = info->restores,
                                .has_restores = info->restores != 0, .saved_epoch = (int64_t)info->saved_epoch,
                                .has_saved_epoch = info->saved_epoch != 0, .saved_version = (int64_t)info->saved_version,
                                .has_saved_version = info->saved_version != 0};
    id_set(&e.boot, info->boot);
    if (strcmp(info->boot, core_self(n->core)->boot) != 0)
        fault_point("move_commit");
    buf_reset(&n->scratch);
    int rc = wire_room_entry_to_json(&e, &n->scratch);
    return rc ? rc
              : bus_kv_put(n->bus, token, "rooms", info->id.s, expected, n->scratch.data, n->scratch.len,
                           n->config.core.kv_ms);
}

struct event_head {
    struct id id;
    char time[TIME_RFC3339_SIZE];
};

static struct event_head head(struct node *n)
{
    struct event_head h;
    char ulid[ULID_SIZE];
    id_ulid(ulid, n->wall, &n->rng);
    id_set(&h.id, ulid);
    time_rfc3339(n->wall, h.time);
    return h;
}

static void publish(struct node *n, const char *subject, int rc)
{
    if (rc == 0)
        (void)bus_publish(n->bus, subject, NULL, n->scratch.data, n->scratch.len);
    else if (n->config.log)
        LOG_ERR("event could not be written", "subject=%s err=%s", subject, room_error_name(rc));
}

void registry_room_event(struct node *n, enum core_fx_kind kind, const struct room_info *info, const char *reason)
{
    struct event_head h = head(n);
    struct id self = core_self(n->core)->id;
    const struct room *room = host_find(n->host, info->id.s);
    size_t meta_len = 0;
    const void *meta = room ? host_room_metadata(room, &meta_len) : NULL;
    struct wire_raw metadata = {meta, (uint32_t)meta_len};
    char subject[SUBJECT_SIZE];
    int rc;
    buf_reset(&n->scratch);
    if (kind == CORE_FX_CREATED) {
        struct wire_event_room_created e = {.id = h.id, .time = wire_str(h.time), .server = self, .room = info->id,
                                            .room_type = info->type, .epoch = (int64_t)info->epoch,
                                            .max_players = info->max_players, .private = info->is_private,
                                            .metadata = metadata};
        rc = wire_event_room_created_to_json(&e, &n->scratch);
        subject_room(subject, info->id.s, "created");
    } else if (kind == CORE_FX_UPDATED) {
        struct wire_event_room_updated e = {.id = h.id, .time = wire_str(h.time), .server = self, .room = info->id,
                                            .players = info->players, .max_players = info->max_players,
                                            .locked = info->locked, .metadata = metadata};
        rc = wire_event_room_updated_to_json(&e, &n->scratch);
        subject_room(subject, info->id.s, "updated");
    } else {
        struct wire_event_room_disposed e = {.id = h.id, .time = wire_str(h.time), .server = self, .room = info->id,
                                             .reason = wire_str(reason && *reason ? reason : "closed")};
        rc = wire_event_room_disposed_to_json(&e, &n->scratch);
        subject_room(subject, info->id.s, "disposed");
    }
    publish(n, subject, rc);
}

void registry_room_migrated(struct node *n, const struct room_info *info, const char *from, const char *reason)
{
    static const char *const reasons[] = {"failover", "restart", "released", "recovery", "migration", "drain"};
    struct event_head h = head(n);
    const struct kept *k = keep_room(n, info->id.s);
    char subject[SUBJECT_SIZE];
    struct wire_event_room_migrated e = {.id = h.id, .time = wire_str(h.time), .server = core_self(n->core)->id,
                                         .room = info->id, .room_type = info->type, .epoch = (int64_t)info->epoch,
                                         .age_ms = k ? k->age_ms : 0, .took_ms = k ? k->took_ms : 0,
                                         .reason = WIRE_EVENT_ROOM_MIGRATED_REASON_FAILOVER};
    id_set(&e.from, from);
    for (int i = 0; i < 6; i++)
        if (strcmp(reason, reasons[i]) == 0)
            e.reason = (enum wire_event_room_migrated_reason)(WIRE_EVENT_ROOM_MIGRATED_REASON_FAILOVER + i);
    if (n->config.log)
        LOG_INF("room taken over", "room=%s epoch=%llu from=%s reason=%s age_ms=%lld took_ms=%lld", info->id.s,
                (unsigned long long)info->epoch, from, reason, (long long)e.age_ms, (long long)e.took_ms);
    buf_reset(&n->scratch);
    subject_room(subject, info->id.s, "migrated");
    publish(n, subject, wire_event_room_migrated_to_json(&e, &n->scratch));
}

void registry_draining_event(struct node *n, const struct server_info *info)
{
    struct event_head h = head(n);
    char subject[SUBJECT_SIZE];
    struct wire_event_server_draining e = {.id = h.id, .time = wire_str(h.time), .server = info->id,
                                           .address = wire_str(info->address[0] ? info->address : NULL), .port = info->port,
                                           .has_port = info->port != 0};
    id_set(&e.boot, info->boot);
    buf_reset(&n->scratch);
    subject_server(subject, info->id.s, "draining");
    publish(n, subject, wire_event_server_draining_to_json(&e, &n->scratch));
    if (n->config.log)
        LOG_INF("draining", "rooms=%u", host_room_count(n->host));
}

void registry_server_event(struct node *n, bool online, const struct server_info *info, const char *reason)
{
    struct event_head h = head(n);
    char subject[SUBJECT_SIZE];
    int rc;
    buf_reset(&n->scratch);
    subject_server(subject, info->id.s, online ? "online" : "offline");
    struct wire_str address = wire_str(info->address[0] ? info->address : NULL);
    if (online) {
        struct wire_event_server_online e = {.id = h.id, .time = wire_str(h.time), .server = info->id,
                                             .address = address, .port = info->port, .has_port = info->port != 0};
        id_set(&e.boot, info->boot);
        rc = wire_event_server_online_to_json(&e, &n->scratch);
    } else {
        struct wire_event_server_offline e = {.id = h.id, .time = wire_str(h.time), .server = info->id,
                                              .address = address, .port = info->port, .has_port = info->port != 0,
                                              .reason = wire_str(reason), .by = core_self(n->core)->id};
        id_set(&e.boot, info->boot);
        rc = wire_event_server_offline_to_json(&e, &n->scratch);
    }
    publish(n, subject, rc);
}

void registry_player_event(struct node *n, bool joined, const char *player, const struct room *room,
                           const char *reason)
{
    struct event_head h = head(n);
    char subject[SUBJECT_SIZE];
    struct wire_event_player_joined j = {.id = h.id, .time = wire_str(h.time), .server = core_self(n->core)->id,
                                         .room_type = host_room_type(room)->name};
    id_set(&j.player, player);
    id_set(&j.room, host_room_id(room));
    buf_reset(&n->scratch);
    subject_player(subject, player, joined ? "joined" : "left");
    if (joined) {
        publish(n, subject, wire_event_player_joined_to_json(&j, &n->scratch));
        return;
    }
    struct wire_event_player_left l = {.id = j.id, .time = j.time, .server = j.server, .player = j.player,
                                       .room = j.room, .room_type = j.room_type, .reason = wire_str(reason)};
    publish(n, subject, wire_event_player_left_to_json(&l, &n->scratch));
}

void registry_matched_event(struct node *n, const struct id *player, const char *queue, const struct id *match,
                            const struct id *room, const struct id *type, int64_t waited_ms)
{
    struct event_head h = head(n);
    char subject[SUBJECT_SIZE];
    struct wire_event_player_matched e = {.id = h.id, .time = wire_str(h.time), .server = core_self(n->core)->id,
                                          .player = *player, .match = *match, .room = *room, .room_type = *type,
                                          .waited_ms = waited_ms, .has_waited_ms = true};
    id_set(&e.queue, queue);
    buf_reset(&n->scratch);
    subject_player(subject, player->s, "matched");
    publish(n, subject, wire_event_player_matched_to_json(&e, &n->scratch));
}

void registry_presence_event(struct node *n, bool online, const struct id *player, const char *reason)
{
    struct event_head h = head(n);
    char subject[SUBJECT_SIZE];
    buf_reset(&n->scratch);
    subject_player(subject, player->s, online ? "online" : "offline");
    if (online) {
        struct wire_event_player_online e = {.id = h.id, .time = wire_str(h.time), .server = core_self(n->core)->id,
                                             .player = *player};
        publish(n, subject, wire_event_player_online_to_json(&e, &n->scratch));
        return;
    }
    struct wire_event_player_offline e = {.id = h.id, .time = wire_str(h.time), .server = core_self(n->core)->id,
                                          .player = *player, .reason = wire_str(reason)};
    publish(n, subject, wire_event_player_offline_to_json(&e, &n->scratch));
}

void registry_kicked_event(struct node *n, const struct id *player, const char *reason)
{
    struct event_head h = head(n);
    char subject[SUBJECT_SIZE];
    struct wire_event_player_kicked e = {.id = h.id, .time = wire_str(h.time), .server = core_self(n->core)->id,
                                         .player = *player, .reason = wire_str(reason)};
    buf_reset(&n->scratch);
    subject_player(subject, player->s, "kicked");
    publish(n, subject, wire_event_player_kicked_to_json(&e, &n->scratch));
}

void registry_room_info(struct room_info *out, const struct room *room)
{
    *out = (struct room_info){.type = host_room_type(room)->name, .epoch = host_room_epoch(room),
                              .players = host_room_players(room), .seats = host_room_seats(room),
                              .seats_version = host_room_seats_version(room),
                              .max_players = host_room_max_players(room), .locked = host_room_locked(room),
                              .is_private = host_room_private(room), .state = ROOM_RUNNING,
                              .created = host_room_created(room),
                              .metadata_version = host_room_metadata_version(room)};
    const char *kept = host_room_durability(room);
    out->durability = strcmp(kept, "journal") == 0    ? ROOM_DURABILITY_JOURNAL
                      : strcmp(kept, "snapshot") == 0 ? ROOM_DURABILITY_SNAPSHOT
                                                      : ROOM_DURABILITY_NONE;
    id_set(&out->id, host_room_id(room));
}

/* The numbers others place rooms by, and our own copy of them. */
void registry_beat(struct node *n)
{
    struct server_info counts = *core_self(n->core);
    counts.rooms = host_room_count(n->host);
    counts.players = (uint32_t)host_player_count(n->host);
    counts.connections = (uint32_t)n->conns.count;
    counts.load = n->load;
    struct queued *q = step_event(n, CORE_EV_COUNTS);
    if (q) {
        q->server = counts;
        q->ev.server = &q->server;
    }
    if (!n->listening)
        return;
    struct wire_beat b = {.status = (enum wire_server_status)counts.status, .rooms = counts.rooms,
                          .players = counts.players, .connections = counts.connections,
                          .capacity = counts.capacity, .load = counts.load, .isolated = core_is_isolated(n->core)};
    id_set(&b.boot, counts.boot);
    char subject[SUBJECT_SIZE];
    subject_server(subject, counts.id.s, "beat");
    buf_reset(&n->scratch);
    publish(n, subject, wire_beat_to_json(&b, &n->scratch));
}
