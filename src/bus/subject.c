/*
 * The rules of subject.h.
 *
 * Must not know what a subject is used for. Invariant: no allocation, no length beyond SUBJECT_MAX is accepted.
 */
#include "bus/subject.h"

#include <string.h>

static bool token_valid(const char *t, size_t len, bool last, bool wildcards)
{
    if (len == 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)t[i];
        if (c <= ' ' || c == 0x7f)
            return false;
        if ((c == '*' || c == '>') && (len != 1 || !wildcards || (c == '>' && !last)))
            return false;
    }
    return true;
}

bool subject_valid(const char *s, bool wildcards)
{
    if (!s || strnlen(s, SUBJECT_MAX + 1) > SUBJECT_MAX)
        return false;
    for (;;) {
        size_t len = strcspn(s, ".");
        if (!token_valid(s, len, s[len] == 0, wildcards))
            return false;
        if (s[len] == 0)
            return true;
        s += len + 1;
    }
}

static bool alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool subject_bucket_valid(const char *s)
{
    size_t len = s ? strnlen(s, SUBJECT_BUCKET_MAX + 1) : 0;
    if (len == 0 || len > SUBJECT_BUCKET_MAX)
        return false;
    for (; *s; s++)
        if (!alnum(*s) && *s != '_' && *s != '-')
            return false;
    return true;
}

static bool made_of(const char *s, const char *also)
{
    for (; *s; s++)
        if (!alnum(*s) && !strchr(also, *s))
            return false;
    return true;
}

bool subject_key_valid(const char *s)
{
    return subject_valid(s, false) && made_of(s, "-/_=.");
}

bool subject_pattern_valid(const char *s)
{
    return subject_valid(s, true) && made_of(s, "-/_=.*>");
}

bool subject_match(const char *pattern, const char *subject)
{
    for (;;) {
        size_t p = strcspn(pattern, "."), s = strcspn(subject, ".");
        if (p == 1 && pattern[0] == '>')
            return s > 0;
        if (!(p == 1 && pattern[0] == '*' && s > 0) && (p != s || memcmp(pattern, subject, p) != 0))
            return false;
        if (pattern[p] == 0 || subject[s] == 0)
            return pattern[p] == subject[s];
        pattern += p + 1;
        subject += s + 1;
    }
}
