/*
 * See listing.h.
 *
 * Weak spot: no node tells what durability a type has; a room that is not listed is taken for what another room of its
 * type is, or for a journalled one if its snapshot speaks of a journal.
 */
#include "roomctl/listing.h"

#include <string.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/rng.h"
#include "base/time.h"
#include "roomctl/stream.h"

enum { SCRATCH_BYTES = 1 << 20 };

void listing_free(struct listing *l)
{
    buf_deinit(&l->scratch);
}

int listing_read(struct conn *c, const char *room, struct listing *out, struct err_detail *detail)
{
    struct conn_answer value;
    struct err_detail why = {""};
    json_t *info = NULL;
    memset(out, 0, sizeof *out);
    buf_init(&out->scratch, &alloc_libc, SCRATCH_BYTES);
    int err = conn_bucket_info(c, "rooms", &info, detail);
    json_decref(info);
    if (err)
        return err;
    err = stream_value(c, "rooms", room, &value, detail);
    if (err)
        return err == ROOM_E_NOT_FOUND ? 0 : err;
    err = wire_room_entry_from_json(&out->e, value.data, value.len, &out->scratch, &why);
    out->revision = value.revision;
    conn_answer_free(&value);
    if (err)
        listing_free(out);
    return err ? err_set(detail, ROOM_E_INVALID, "the entry of room '%s' is not readable: %.200s", room, why.text) : 0;
}

bool listing_runs(const struct listing *l)
{
    return l->revision &&
           (l->e.state == WIRE_ROOM_STATE_RUNNING || l->e.state == WIRE_ROOM_STATE_STARTING);
}

int listing_write(struct conn *c, const char *room, struct wire_room_entry *e, uint64_t *revision, struct err_detail *detail)
{
    char nonce[ULID_SIZE];
    uint64_t seed;
    struct rng rng;
    struct buf json;
    rng_secret(&seed, sizeof seed);
    rng_init(&rng, seed);
    id_ulid(nonce, time_wall_now(), &rng);
    e->nonce = wire_str(nonce);
    e->has_restores = e->restores != 0;
    buf_init(&json, &alloc_libc, SCRATCH_BYTES);
    int err = wire_room_entry_to_json(e, &json);
    if (err)
        err = err_set(detail, err, "the entry of room '%s' cannot be written: %s", room, room_error_text(err));
    else
        err = stream_put(c, "rooms", room, *revision, json.data, json.len, revision, detail);
    buf_deinit(&json);
    e->nonce = (struct wire_str){0};
    return err;
}

int listing_guess(struct conn *c, const struct wire_snapshot_entry *s, struct wire_room_entry *out,
                  struct err_detail *detail)
{
    json_t *rooms = NULL, *other, *like = NULL;
    const char *id;
    int err = conn_list(c, "rooms", &rooms, detail);
    if (err)
        return err;
    json_object_foreach(rooms, id, other)
    {
        const char *type = json_string_value(json_object_get(other, "type"));
        if (type && strcmp(type, s->type.s) == 0)
            like = other;
    }
    const char *word = json_string_value(json_object_get(like, "durability"));
    bool journal = word ? strcmp(word, "journal") == 0 : s->position > 0;
    *out = (struct wire_room_entry){.type = s->type, .owner = s->server, .epoch = s->epoch, .created = s->saved,
                                    .durability = journal ? WIRE_DURABILITY_JOURNAL : WIRE_DURABILITY_SNAPSHOT,
                                    .state = WIRE_ROOM_STATE_PENDING, .nonce = wire_str(""),
                                    .max_players = json_integer_value(json_object_get(like, "max_players")),
                                    .private = json_is_true(json_object_get(like, "private"))};
    id_set(&out->boot, LISTING_NO_BOOT);
    json_decref(rooms);
    return 0;
}

int listing_above(struct conn *c, int64_t *epoch, struct err_detail *detail)
{
    json_t *info = NULL;
    int err = conn_bucket_info(c, "rooms", &info, detail);
    int64_t last = (int64_t)json_number_value(json_object_get(json_object_get(info, "state"), "last_seq"));
    json_decref(info);
    if (err == 0 && last > *epoch)
        *epoch = last;
    return err;
}

int listing_cluster(struct conn *c, char out[ID_SIZE], struct err_detail *detail)
{
    struct conn_answer a;
    json_t *info = NULL;
    out[0] = 0;
    int err = conn_bucket_info(c, "cluster", &info, detail);
    json_decref(info);
    if (err == 0)
        err = stream_value(c, "cluster", "id", &a, detail);
    if (err)
        return err == ROOM_E_NOT_FOUND ? 0 : err;
    json_t *entry = json_loadb(a.data, a.len, 0, NULL);
    const char *id = json_string_value(json_object_get(entry, "id"));
    snprintf(out, ID_SIZE, "%.64s", id ? id : "");
    json_decref(entry);
    conn_answer_free(&a);
    return 0;
}
