/* See inbox.h. */
#include "node/inbox.h"

#include "wire/mp_read.h"
#include "wire/mp_write.h"
#include "wire/wire_gen.h"

static bool read_number(struct mp_read *r, uint64_t *out)
{
    struct mp_token t;
    if (mp_next(r, &t, NULL) || (t.type != MP_UINT && (t.type != MP_INT || t.i < 0)))
        return false;
    *out = t.type == MP_UINT ? t.u : (uint64_t)t.i;
    return true;
}

/* More than this build remembers: the newest count. */
static bool read_recent(struct inbox_head *h, struct wire_raw raw)
{
    struct mp_read r;
    struct mp_token t;
    if (!raw.len)
        return true;
    mp_read_init(&r, raw.data, raw.len);
    if (mp_next(&r, &t, NULL) || t.type != MP_ARRAY || t.count % 2)
        return false;
    uint32_t skip = t.count / 2 > INBOX_RECENT ? t.count / 2 - INBOX_RECENT : 0;
    for (uint32_t i = 0; i < t.count / 2; i++) {
        struct inbox_known k;
        if (!read_number(&r, &k.key) || !read_number(&r, &k.number))
            return false;
        if (i >= skip)
            h->recent[h->recent_count++] = k;
    }
    return true;
}

bool inbox_read(struct inbox_message *out, const uint8_t *data, size_t len)
{
    struct wire_inbox_message w;
    if (wire_inbox_message_unpack(&w, data, len, NULL))
        return false;
    *out = (struct inbox_message){.mark = w.mark, .before = (uint64_t)w.before, .size = (uint64_t)w.size, .data = w.data};
    struct inbox_head *h = &out->head;
    h->number = (uint64_t)w.number;
    h->end = (uint64_t)w.end;
    h->acked = (uint64_t)w.acked;
    h->acked_end = (uint64_t)w.acked_end;
    h->acked_sequence = (uint64_t)w.acked_sequence;
    h->old_sequence = (uint64_t)w.old_sequence;
    h->old_end = (uint64_t)w.old_end;
    return read_recent(h, w.recent);
}

void inbox_write(const struct inbox_message *m, struct buf *out)
{
    const struct inbox_head *h = &m->head;
    uint8_t bytes[INBOX_RECENT * 18 + 8];
    struct buf recent = {.data = bytes, .cap = sizeof(bytes), .max = sizeof(bytes), .alloc = out->alloc};
    mp_write_array(&recent, 2 * h->recent_count);
    for (unsigned i = 0; i < h->recent_count; i++) {
        mp_write_uint(&recent, h->recent[i].key);
        mp_write_uint(&recent, h->recent[i].number);
    }
    struct wire_inbox_message w = {.mark = m->mark, .number = (int64_t)h->number, .end = (int64_t)h->end,
                                   .acked = (int64_t)h->acked, .acked_end = (int64_t)h->acked_end,
                                   .acked_sequence = (int64_t)h->acked_sequence, .old_sequence = (int64_t)h->old_sequence,
                                   .old_end = (int64_t)h->old_end, .before = (int64_t)m->before, .size = (int64_t)m->size,
                                   .recent = {bytes, (uint32_t)recent.len}, .data = m->data};
    if (wire_inbox_message_pack(&w, out))
        out->failed = true;
}

uint64_t inbox_find(const struct inbox_head *h, uint64_t key)
{
    for (unsigned i = h->recent_count; i-- > 0;)
        if (h->recent[i].key == key)
            return h->recent[i].number;
    return 0;
}

/* Every so many bytes the last message is noted down; when as many have followed it, nobody needs what is up to there. */
uint64_t inbox_add(struct inbox_head *h, uint64_t before, uint64_t key, uint64_t size, const struct inbox_limits *limits)
{
    uint64_t below = 0;
    if (h->end + size - h->old_end >= limits->bytes) {
        below = h->old_sequence ? h->old_sequence + 1 : 0;
        h->old_sequence = before;
        h->old_end = h->end;
    }
    h->number++;
    h->end += size;
    if (h->recent_count == INBOX_RECENT)
        for (unsigned i = 1; i < INBOX_RECENT; i++)
            h->recent[i - 1] = h->recent[i];
    else
        h->recent_count++;
    h->recent[h->recent_count - 1] = (struct inbox_known){key, h->number};
    return below;
}

bool inbox_may_be_good(uint64_t number, const struct inbox_head *last, const struct inbox_limits *limits)
{
    return number > last->acked && number + limits->messages > last->number;
}

bool inbox_good(const struct inbox_message *m, const struct inbox_head *last, const struct inbox_limits *limits)
{
    uint64_t start = m->head.end - m->size;
    return !m->mark && inbox_may_be_good(m->head.number, last, limits) && start + limits->bytes >= last->end;
}
