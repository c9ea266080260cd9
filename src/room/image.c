/*
 * A whole room as bytes, and a room made of them.
 *
 * Decides: what of a room outlives its node: type, times, lock, metadata, random numbers, taken seats with what they
 * remember of their answers, and the type's state. Reserved seats are not kept: their tickets end sooner than a room moves.
 * Invariant: whatever bytes come in, a room is made that could have written them, or none.
 *
 *   [1, type, epoch, version, created, age, last tick, private, locked, metadata, rng [4 numbers], seats, state]
 *
 * The state comes last; a room that has subscribed to topics has [pattern ...] before it, and one that has asked for something
 * has [pattern ...] and [last number, open ask ...].
 *
 *   seat  [player, session, last n, [[n, code, result] ...]]; an answer to several numbers has the first of them behind the result
 *
 * Weakness: it is written in one go on the loop; a state of many megabytes costs milliseconds.
 */
#include "base/log.h"
#include "room/journal.h"
#include "room/read.h"
#include "wire/mp_write.h"

enum { IMAGE_FORMAT = 1, IMAGE_FIELDS = 13, IMAGE_FIELDS_TOPICS = 14, IMAGE_FIELDS_ASKS = 15,
       IMAGE_MAX = 64 * 1024 * 1024, CODE_MIN = -1000 };
enum { SEAT_FIELDS = 4, ANSWER_FIELDS = 3 };

static void write_seat(struct buf *out, const struct seat *seat)
{
    const struct replies *a = &seat->replies;
    mp_write_array(out, SEAT_FIELDS);
    mp_write_text(out, seat->player);
    if (seat->session.s[0])
        mp_write_text(out, seat->session.s);
    else
        mp_write_nil(out);
    mp_write_int(out, a->last_n);
    mp_write_array(out, a->count);
    for (const struct reply *e = a->first; e; e = e->next) {
        mp_write_array(out, e->from < e->n ? ANSWER_FIELDS + 1 : ANSWER_FIELDS);
        mp_write_int(out, e->n);
        mp_write_int(out, e->code);
        mp_write_raw(out, (struct wire_raw){e->data, e->len});
        if (e->from < e->n)
            mp_write_int(out, e->from);
    }
}

static int write_image(struct room *r, struct buf *out)
{
    mp_write_array(out, r->ask_number ? IMAGE_FIELDS_ASKS : r->topics ? IMAGE_FIELDS_TOPICS : IMAGE_FIELDS);
    mp_write_uint(out, IMAGE_FORMAT);
    mp_write_text(out, r->def->name.s);
    mp_write_uint(out, r->epoch);
    mp_write_uint(out, r->image_version + 1);
    mp_write_int(out, r->created.ms);
    mp_write_int(out, room_now_ms(r));
    mp_write_int(out, r->last_tick_ms);
    mp_write_bool(out, r->private_room);
    mp_write_bool(out, r->locked);
    mp_write_raw(out, (struct wire_raw){r->metadata, r->metadata_len});
    mp_write_array(out, 4);
    for (int i = 0; i < 4; i++)
        mp_write_uint(out, r->rng.s[i]);
    mp_write_array(out, r->seats.taken);
    for (const struct seat *seat = r->seats.head; seat; seat = seat->next)
        if (seat->taken)
            write_seat(out, seat);
    if (r->topics || r->ask_number)
        topics_write(r, out);
    if (r->ask_number)
        open_write(r, out);
    return out->failed ? ROOM_E_NO_MEMORY : run_save(r, out);
}

/* The journal keeps the image until all that is in it is durable. */
static int keep(struct room *r, struct buf *image)
{
    struct journal *j = r->journal;
    j->image = *image;
    j->imaging = true;
    if (!out_image(r, r->image_version)) {
        j->imaging = false;
        buf_init(&j->image, image->alloc, SIZE_MAX);
        return ROOM_E_NO_MEMORY;
    }
    j->barrier = j->groups;
    *image = (struct buf){0};
    return 0;
}

int host_snapshot(struct host *h, const char *id, struct mono now)
{
    struct room *r = room_of(h, id, now);
    struct journal *j = r ? r->journal : NULL;
    const struct host_config *c = &h->config;
    struct buf image;
    if (!r || !r->running)
        return r ? ROOM_E_UNAVAILABLE : ROOM_E_NOT_FOUND;
    if (!r->def->impl->save || !r->def->impl->restore)
        return ROOM_E_UNSUPPORTED;
    if (j && j->imaging) {
        j->image_wanted = true;
        return 0;
    }
    buf_init(&image, c->alloc, IMAGE_MAX);
    int rc = write_image(r, &image);
    if (rc) {
        LOG_WRN("room could not be saved", "room=%s type=%s err=%s", r->id, r->def->name.s, room_error_name(rc));
        buf_deinit(&image);
        return rc;
    }
    r->image_version++;
    bool waits = journal_holds(r);
    if (waits)
        rc = keep(r, &image);
    if (rc == 0)
        r->image_changes = r->changes;
    if (!waits)
        c->out->image(c->out_arg, r, r->image_version, j ? j->sequence : 0, image.data, image.len);
    buf_deinit(&image);
    run_settle(r); /* what save() may have done to its room */
    return rc;
}

struct image {
    struct id type;
    uint64_t epoch, version;
    int64_t created, age, last_tick;
    bool is_private, locked;
    struct wire_raw metadata, topics, asks, state;
    struct rng rng;
    uint32_t seats;
    struct mp_read seats_at;
};

static bool read_image(const void *data, size_t len, struct image *out)
{
    struct mp_read r;
    uint32_t count;
    int64_t format;
    mp_read_init(&r, data, len);
    if (!read_array(&r, &count) || count < IMAGE_FIELDS || count > IMAGE_FIELDS_ASKS ||
        !read_int(&r, IMAGE_FORMAT, IMAGE_FORMAT, &format) ||
        !read_id(&r, false, &out->type) || !read_uint(&r, &out->epoch) || !read_uint(&r, &out->version) ||
        !read_int(&r, INT64_MIN, INT64_MAX, &out->created) || !read_int(&r, 0, READ_TIME_MAX, &out->age) ||
        !read_int(&r, 0, out->age, &out->last_tick) || !read_bool(&r, &out->is_private) ||
        !read_bool(&r, &out->locked) || !read_raw(&r, ROOM_METADATA_MAX, &out->metadata) || !read_rng(&r, &out->rng) ||
        !read_array(&r, &out->seats))
        return false;
    out->seats_at = r;
    struct wire_raw seat;
    for (uint32_t i = 0; i < out->seats; i++)
        if (mp_skip(&r, WIRE_DEPTH_MAX, &seat, NULL) != 0)
            return false;
    out->topics = out->asks = (struct wire_raw){0};
    if (count >= IMAGE_FIELDS_TOPICS && mp_skip(&r, READ_DEPTH, &out->topics, NULL) != 0)
        return false;
    if (count == IMAGE_FIELDS_ASKS && mp_skip(&r, READ_DEPTH, &out->asks, NULL) != 0)
        return false;
    return mp_skip(&r, READ_DEPTH, &out->state, NULL) == 0 && out->state.len <= ROOM_IMAGE_MAX && r.at == r.end;
}

static bool read_answer(struct mp_read *in, int64_t before, int64_t last, struct reply *out, struct wire_raw *result)
{
    uint32_t fields;
    int64_t code;
    if (!read_array(in, &fields) || (fields != ANSWER_FIELDS && fields != ANSWER_FIELDS + 1) || before == INT64_MAX ||
        !read_int(in, before + 1, last, &out->n) || !read_int(in, CODE_MIN, 0, &code) || !read_raw(in, ROOM_DATA_MAX, result))
        return false;
    out->from = out->n;
    out->code = (int)code;
    out->len = (uint32_t)result->len;
    return fields == ANSWER_FIELDS || read_int(in, before + 1, out->n, &out->from);
}

static bool read_answers(struct mp_read *in, struct seats *s, struct replies *a)
{
    int64_t before = 0, last = 0;
    uint32_t count;
    if (!read_int(in, 0, INT64_MAX, &last) || !read_array(in, &count) || count > REPLIES_MAX)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct reply answer = {0};
        struct wire_raw result;
        if (!read_answer(in, before, last, &answer, &result))
            return false;
        replies_restore(a, s->answers, &answer, result.data);
        before = answer.n;
    }
    a->last_n = last;
    return true;
}

static int read_seats(struct room *r, struct image *m)
{
    for (uint32_t i = 0; i < m->seats; i++) {
        struct id player, session;
        struct seat *seat;
        uint32_t count;
        if (!read_array(&m->seats_at, &count) || count != SEAT_FIELDS ||
            !read_id(&m->seats_at, false, &player) || !read_id(&m->seats_at, true, &session))
            return ROOM_E_BAD_FRAME;
        int rc = seats_restore(&r->seats, player.s, session.s, &seat);
        if (rc)
            return rc == ROOM_E_ALREADY ? ROOM_E_BAD_FRAME : rc;
        r->host->players++;
        if (!read_answers(&m->seats_at, &r->seats, &seat->replies))
            return ROOM_E_BAD_FRAME;
    }
    return 0;
}

/* Everything but the type's own state; `r` has no seats yet. */
static int fill(struct room *r, struct image *m)
{
    r->created = (struct wall){m->created};
    r->replay_ms = m->age;
    r->last_tick_ms = m->last_tick;
    r->rng = m->rng;
    if (r->journal)
        r->journal->seen_epoch = m->epoch;
    struct mp_read in;
    int rc = read_seats(r, m);
    if (rc == 0 && m->asks.len) {
        mp_read_init(&in, m->asks.data, m->asks.len);
        rc = open_read(r, &in);
    }
    if (rc == 0 && m->topics.len) {
        mp_read_init(&in, m->topics.data, m->topics.len);
        rc = topics_read(r, &in);
    }
    if (rc || !m->metadata.len)
        return rc;
    return room_set_metadata(r, m->metadata.data, m->metadata.len);
}

static int type_refuses(struct room *r, const struct image *m, struct err_detail *detail)
{
    int rc = run_restore(r, m->state.data, m->state.len);
    if (rc)
        return err_set(detail, rc, "room type '%s' refused to restore room '%s': %s", r->def->name.s, r->id,
                       room_error_text(rc));
    r->alive = true;
    r->locked = m->locked; /* after the type, which may have locked it, too */
    r->rng = m->rng;
    rc = run_verdict(r);
    return rc ? err_set(detail, rc, "room '%s' could not be restored: %s", r->id, room_error_text(rc)) : 0;
}

static int from_image(struct host *h, const struct host_restore *in, struct err_detail *detail)
{
    struct image m;
    if (!read_image(in->image, in->image_len, &m))
        return err_set(detail, ROOM_E_BAD_FRAME, "the image of room '%s' (%zu bytes) is damaged", in->id, in->image_len);
    const struct room_type_def *def = types_find(h->config.types, m.type.s);
    if (!def)
        return err_set(detail, ROOM_E_UNKNOWN_TYPE, "no room type '%s' on this server", m.type.s);
    if (!def->impl->save || !def->impl->restore)
        return err_set(detail, ROOM_E_UNSUPPORTED, "room type '%s' cannot restore its rooms", m.type.s);
    struct room *r = room_make(h, in->id, in->epoch, def);
    if (!r)
        return err_set(detail, ROOM_E_NO_MEMORY, "no memory for room '%s'", in->id);
    r->private_room |= m.is_private;
    int rc = fill(r, &m);
    rc = rc ? err_set(detail, rc, "the image of room '%s' cannot be used: %s", in->id, room_error_text(rc))
            : type_refuses(r, &m, detail);
    if (rc)
        run_discard(r);
    else if (r->journal)
        r->journal->sequence = in->position;
    return rc;
}

int host_restore(struct host *h, const struct host_restore *in, struct mono now, struct err_detail *detail)
{
    h->now = now;
    if (!in->id || !id_valid(in->id))
        return err_set(detail, ROOM_E_INVALID, "'%.80s' is not a room id", in->id ? in->id : "");
    if (map_get(&h->rooms, in->id))
        return err_set(detail, ROOM_E_EXISTS, "room '%s' runs here already", in->id);
    if (h->rooms.count >= h->config.max_rooms)
        return err_set(detail, ROOM_E_FULL, "this server runs its limit of %u rooms", h->config.max_rooms);
    if (in->image)
        return from_image(h, in, detail);
    if (room_make(h, in->id, in->epoch, &room_no_type))
        return 0;
    return err_set(detail, ROOM_E_NO_MEMORY, "no memory for room '%s'", in->id);
}
