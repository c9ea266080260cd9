/* See wire.h. */
#include "wire/wire.h"

#include "wire/codec.h"
#include "wire/mp_read.h"

const struct codec_message *codec_by_op(int op)
{
    for (size_t i = 0; op > 0 && i < codec_message_count; i++)
        if (codec_messages[i]->op == op)
            return codec_messages[i];
    return NULL;
}

const char *wire_op_name(int op)
{
    const struct codec_message *t = codec_by_op(op);
    return t ? t->op_name : NULL;
}

static int op_of_word(const struct mp_token *word)
{
    for (size_t i = 0; i < codec_message_count; i++) {
        const struct codec_message *t = codec_messages[i];
        if (t->op && strlen(t->op_name) == word->len && memcmp(t->op_name, word->data, word->len) == 0)
            return t->op;
    }
    return 0;
}

int wire_peek_op(const uint8_t *data, size_t len)
{
    struct mp_read r;
    struct mp_token head, t;
    struct wire_raw ignored;
    mp_read_init(&r, data, len);
    if (mp_next(&r, &head, NULL) != 0)
        return -1;
    if (head.type == MP_ARRAY) {
        bool ok = head.count > 0 && mp_next(&r, &t, NULL) == 0 && t.type == MP_INT && t.i >= 0 && t.i <= INT32_MAX;
        return ok ? (int)t.i : -1;
    }
    for (uint32_t i = 0; head.type == MP_MAP && i < head.count; i++) {
        if (mp_next(&r, &t, NULL) != 0 || t.type != MP_STR)
            return -1;
        if (t.len == 2 && memcmp(t.data, "op", 2) == 0)
            return mp_next(&r, &t, NULL) == 0 && t.type == MP_STR ? op_of_word(&t) : -1;
        if (mp_skip(&r, WIRE_DEPTH_MAX - 1, &ignored, NULL) != 0)
            return -1;
    }
    return -1;
}
