/* See base64.h. */
#include "base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(const char *text, size_t len, uint8_t *out, size_t *out_len)
{
    size_t n = 0;
    if (len % 4 != 0)
        return false;
    for (size_t i = 0; i < len; i += 4) {
        bool last = i + 4 == len;
        int pad = last && text[i + 3] == '=' ? (text[i + 2] == '=' ? 2 : 1) : 0;
        uint32_t bits = 0;
        for (int k = 0; k < 4 - pad; k++) {
            int d = digit(text[i + (size_t)k]);
            if (d < 0)
                return false;
            bits |= (uint32_t)d << (18 - 6 * k);
        }
        /* Bits below the last byte must be zero, so that each byte string has one text. */
        if ((pad == 1 && (bits & 0xFF)) || (pad == 2 && (bits & 0xFFFF)))
            return false;
        for (int k = 0; k < 3 - pad; k++)
            out[n++] = (uint8_t)(bits >> (16 - 8 * k));
    }
    *out_len = n;
    return true;
}

/* Four characters for up to three bytes. */
static void quad(const uint8_t *data, size_t len, char four[4])
{
    uint32_t bits = (uint32_t)data[0] << 16;
    bits |= len > 1 ? (uint32_t)data[1] << 8 : 0;
    bits |= len > 2 ? data[2] : 0;
    for (size_t k = 0; k < 4; k++)
        four[k] = k <= len ? alphabet[(bits >> (18 - 6 * k)) & 63] : '=';
}

bool base64_encode(const uint8_t *data, size_t len, struct buf *out)
{
    for (size_t i = 0; i < len; i += 3) {
        char four[4];
        quad(data + i, len - i < 3 ? len - i : 3, four);
        if (!buf_write(out, four, sizeof(four)))
            return false;
    }
    return !out->failed;
}

void base64_text(const uint8_t *data, size_t len, char *out)
{
    for (size_t i = 0; i < len; i += 3, out += 4)
        quad(data + i, len - i < 3 ? len - i : 3, out);
    *out = 0;
}
