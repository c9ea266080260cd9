/*
 * Doing again what a journal says.
 *
 * Decides: which batches count, what each record does, and when a room may run again. A batch of a lower epoch than one
 * already read was written by an owner that had been superseded, and is ignored. Invariant: nothing is said, and a room that
 * does not give the answers it gave then is not served.
 */
#include <string.h>

#include "room/journal.h"
#include "room/read.h"

enum { CODE_MIN = -1000, EVENT_ANSWERS = 10 /* fields of an event that answers an open ask */ };

static bool read_reason(struct mp_read *in, char out[ROOM_REASON_MAX + 1])
{
    struct mp_token t;
    if (mp_next(in, &t, NULL) != 0 || t.type != MP_STR || t.len > ROOM_REASON_MAX || memchr(t.data, 0, t.len))
        return false;
    memcpy(out, t.data, t.len);
    out[t.len] = '\0';
    return true;
}

static int start(struct room *r, struct mp_read *in)
{
    struct id type;
    int64_t created;
    bool is_private;
    struct wire_raw options;
    if (r->alive || !read_id(in, false, &type) || !read_int(in, INT64_MIN, INT64_MAX, &created) ||
        !read_bool(in, &is_private) || !read_rng(in, &r->rng) || !read_raw(in, HOST_OPTIONS_MAX, &options))
        return ROOM_E_BAD_FRAME;
    const struct room_type_def *def = types_find(r->host->config.types, type.s);
    if (!def)
        return ROOM_E_UNKNOWN_TYPE;
    if (!room_set_type(r, def, is_private))
        return ROOM_E_NO_MEMORY;
    r->created.ms = created;
    int rc = run_create(r, options.len ? options.data : NULL, options.len);
    r->alive = rc == 0;
    return rc ? ROOM_E_INTERNAL : 0;
}

static int join(struct room *r, struct mp_read *in)
{
    struct id player, session;
    struct wire_raw options;
    int64_t code;
    if (!read_id(in, false, &player) || !read_id(in, true, &session) || !read_raw(in, HOST_OPTIONS_MAX, &options) ||
        !read_int(in, CODE_MIN, 0, &code))
        return ROOM_E_BAD_FRAME;
    struct seat *seat = seats_by_player(&r->seats, player.s);
    if (code == ROOM_E_NO_MEMORY)
        return 0; /* it had done nothing, and here there may be memory */
    if (seat) {
        seats_rename(&r->seats, seat, session.s);
        return code ? ROOM_E_BAD_FRAME : 0;
    }
    int rc = r->def->impl->apply ? (int)code : run_join(r, player.s, options.len ? options.data : NULL, options.len);
    if (rc != code)
        return ROOM_E_INTERNAL;
    rc = rc ? 0 : seats_restore(&r->seats, player.s, session.s, &seat);
    r->host->players += rc == 0 && code == 0;
    return rc;
}

static int leave(struct room *r, struct mp_read *in)
{
    struct id player;
    char reason[ROOM_REASON_MAX + 1];
    if (!read_id(in, false, &player) || !read_reason(in, reason))
        return ROOM_E_BAD_FRAME;
    struct seat *seat = seats_by_player(&r->seats, player.s);
    if (!seat)
        return ROOM_E_BAD_FRAME;
    seats_drop(&r->seats, seat);
    r->host->players--;
    if (!r->def->impl->apply)
        run_leave(r, player.s, reason);
    return 0;
}

static int message(struct room *r, struct mp_read *in)
{
    struct host *h = r->host;
    struct id player;
    int64_t n, code;
    struct wire_raw data, result;
    if (!read_id(in, false, &player) || !read_int(in, INT64_MIN, INT64_MAX, &n) || !read_int(in, CODE_MIN, 0, &code) ||
        !read_raw(in, HOST_MESSAGE_MAX, &data) || !read_raw(in, ROOM_DATA_MAX, &result))
        return ROOM_E_BAD_FRAME;
    struct seat *seat = seats_by_player(&r->seats, player.s);
    if (!seat || (n > 0 && n <= seat->replies.last_n))
        return ROOM_E_BAD_FRAME;
    if (!r->def->impl->apply && code != ROOM_E_NO_MEMORY) {
        int rc = run_message(r, player.s, data.data, data.len ? data.len : 1); /* nil is a message, too */
        if (rc != code)
            return ROOM_E_INTERNAL;
        result = (struct wire_raw){h->reply.data, (uint32_t)h->reply.len};
    }
    if (n > 0)
        replies_add(&seat->replies, r->seats.answers, n, (int)code, result.data, code ? 0 : result.len);
    return 0;
}

static bool read_from(struct mp_read *in, bool topic, char out[ROOM_TOPIC_MAX + 1])
{
    struct mp_token t;
    struct id id;
    if (!topic) {
        if (!read_id(in, true, &id))
            return false;
        memcpy(out, id.s, sizeof(id.s));
        return true;
    }
    if (mp_next(in, &t, NULL) != 0 || t.type != MP_STR || t.len > ROOM_TOPIC_MAX)
        return false;
    memcpy(out, t.data, t.len);
    out[t.len] = '\0';
    return strlen(out) == t.len && topics_valid(out, false);
}

/* `answers`: it is the answer to an open ask. */
static int event(struct room *r, struct mp_read *in, bool answers)
{
    struct room_event ev = {.kind = ROOM_EVENT_SEND};
    char from[ROOM_TOPIC_MAX + 1];
    struct wire_raw data;
    int64_t kind, code, rc;
    uint64_t number = 0;
    if (!read_int(in, ROOM_EVENT_SEND, ROOM_EVENT_SHARED, &kind) ||
        !read_from(in, kind == ROOM_EVENT_TOPIC || kind == ROOM_EVENT_SHARED, from) || !read_uint(in, &ev.request) ||
        !read_int(in, CODE_MIN, 0, &code) || !read_uint(in, &ev.token) || !read_raw(in, HOST_MESSAGE_MAX, &data) ||
        !read_int(in, CODE_MIN, 0, &rc) || (answers && !read_uint(in, &number)))
        return ROOM_E_BAD_FRAME;
    if (answers)
        open_free(r, open_take(r, number));
    if (r->def->impl->apply || rc == ROOM_E_NO_MEMORY || (answers && (!ev.request || !r->def->impl->event)))
        return 0;
    if (!r->def->impl->event)
        return ROOM_E_INTERNAL;
    bool message = kind == ROOM_EVENT_SEND || kind == ROOM_EVENT_TELL || kind == ROOM_EVENT_TOPIC;
    ev.kind = (enum room_event_kind)kind;
    ev.from = from[0] ? from : NULL;
    ev.code = (int)code;
    ev.data = data.data;
    ev.len = data.len ? data.len : message; /* nil is a message, too */
    return run_event(r, &ev) == rc ? 0 : ROOM_E_INTERNAL;
}

static int tick(struct room *r, struct mp_read *in)
{
    int64_t dt;
    if (!read_int(in, 0, READ_TIME_MAX, &dt))
        return ROOM_E_BAD_FRAME;
    r->last_tick_ms = r->replay_ms;
    if (!r->def->impl->apply)
        run_tick(r, r->replay_ms, dt);
    return 0;
}

static int change(struct room *r, struct mp_read *in)
{
    struct wire_raw value;
    if (!r->def->impl->apply || mp_skip(in, READ_DEPTH, &value, NULL) != 0)
        return ROOM_E_BAD_FRAME;
    return run_apply(r, value.data, value.len) ? ROOM_E_INTERNAL : 0;
}

static int metadata(struct room *r, struct mp_read *in)
{
    struct wire_raw value;
    if (!read_raw(in, ROOM_METADATA_MAX, &value))
        return ROOM_E_BAD_FRAME;
    return room_set_metadata(r, value.data, value.len);
}

static int end(struct room *r, struct mp_read *in)
{
    char reason[ROOM_REASON_MAX + 1];
    if (!read_reason(in, reason))
        return ROOM_E_BAD_FRAME;
    r->over = true;
    return 0;
}

static int ask(struct room *r, struct mp_read *in)
{
    return r->def->impl->apply ? open_read_one(r, in) : ROOM_E_BAD_FRAME;
}

static int act(struct room *r, int64_t kind, uint32_t fields, struct mp_read *in)
{
    switch (kind) {
    case JOURNAL_START:    return start(r, in);
    case JOURNAL_JOIN:     return join(r, in);
    case JOURNAL_LEAVE:    return leave(r, in);
    case JOURNAL_MESSAGE:  return message(r, in);
    case JOURNAL_TICK:     return tick(r, in);
    case JOURNAL_LOCK:     return read_bool(in, &r->locked) ? 0 : ROOM_E_BAD_FRAME;
    case JOURNAL_END:      return end(r, in);
    case JOURNAL_CHANGE:   return change(r, in);
    case JOURNAL_METADATA: return metadata(r, in);
    case JOURNAL_EVENT:    return event(r, in, fields == EVENT_ANSWERS);
    case JOURNAL_ASK:      return ask(r, in);
    case JOURNAL_TOPICS:   return topics_read(r, in);
    default:               return read_rng(in, &r->rng) ? 0 : ROOM_E_BAD_FRAME;
    }
}

static int do_again(struct room *r, struct mp_read *in)
{
    static const uint32_t fields[] = {0, 7, 6, 4, 7, 3, 3, 3, 3, 3, 3, 9, 3, 3};
    uint32_t count;
    int64_t kind, time;
    if (!read_array(in, &count) || !read_int(in, JOURNAL_START, JOURNAL_ASK, &kind) ||
        (count != fields[kind] && !(kind == JOURNAL_EVENT && count == EVENT_ANSWERS)) ||
        !read_int(in, 0, READ_TIME_MAX, &time) || r->alive == (kind == JOURNAL_START))
        return ROOM_E_BAD_FRAME;
    r->replay_ms = time; /* may be before the image: an owner that had not got it went on from an earlier one */
    r->changes++;
    int rc = act(r, kind, count, in);
    if (rc == 0 && r->over_memory)
        rc = ROOM_E_NO_MEMORY;
    return rc;
}

/* False: an owner wrote it that had been superseded, or it was read before. */
static bool counts(struct journal *j, uint64_t epoch, uint64_t number, int *rc)
{
    if (epoch < j->seen_epoch)
        return false;
    if (epoch > j->seen_epoch) {
        j->seen_epoch = epoch;
        j->seen_number = number;
        return true;
    }
    if (number <= j->seen_number)
        return false;
    if (j->seen_number && number != j->seen_number + 1)
        *rc = ROOM_E_BAD_FRAME; /* one is missing */
    j->seen_number = number;
    return true;
}

int host_replay(struct host *h, const char *id, uint64_t sequence, const void *data, size_t len)
{
    struct room *r = id ? map_get(&h->rooms, id) : NULL;
    struct journal *j = r ? r->journal : NULL;
    struct mp_read in;
    uint32_t four, records;
    int64_t format;
    uint64_t epoch, number;
    int rc = 0;
    if (!j || r->running)
        return !r ? ROOM_E_NOT_FOUND : j ? ROOM_E_INVALID : ROOM_E_UNSUPPORTED;
    mp_read_init(&in, data, len);
    if (!read_array(&in, &four) || four != 4 || !read_int(&in, JOURNAL_FORMAT, JOURNAL_FORMAT, &format) ||
        !read_uint(&in, &epoch) || !read_uint(&in, &number) || !read_array(&in, &records))
        return ROOM_E_BAD_FRAME;
    if (epoch > r->epoch || (epoch == r->epoch && records))
        return ROOM_E_FENCED;
    j->sequence = sequence;
    if (!counts(j, epoch, number, &rc))
        return 0;
    for (uint32_t i = 0; i < records && rc == 0 && !r->over; i++)
        rc = do_again(r, &in);
    if (rc == 0 && !r->over && in.at != in.end)
        rc = ROOM_E_BAD_FRAME;
    return rc;
}

int host_resume(struct host *h, const char *id, struct mono now)
{
    struct room *r = id ? map_get(&h->rooms, id) : NULL;
    if (!r || r->running)
        return ROOM_E_NOT_FOUND;
    h->now = now;
    if (!r->alive || r->over) {
        int rc = r->over ? ROOM_E_CANCELLED : ROOM_E_NOT_FOUND;
        run_discard(r);
        return rc;
    }
    r->started = mono_add_ms(now, -r->replay_ms);
    r->empty_since = now;
    r->next_tick = mono_add_ms(now, r->def->tick_ms);
    r->running = true;
    /* Ticks of a type with apply() that changed nothing were not recorded; and an image may be ahead of its journal. */
    if (r->def->impl->apply || r->last_tick_ms > r->replay_ms)
        r->last_tick_ms = r->replay_ms;
    for (struct seat *seat = r->seats.head; seat; seat = seat->next)
        seats_hold(&r->seats, seat, mono_add_ms(now, h->config.hold_ms));
    if (r->def->durability != ROOM_DURABILITY_JOURNAL)
        journal_drop(r);
    journal_known(r);
    r->told_version = r->seats.version;
    r->told_topics = r->topics_version;
    r->dirty = false;
    open_say_unsaid(r);
    run_settle(r); /* what was asked for in the last batch and did not come to it */
    return 0;
}
