/*
 * What doctor and check find: a list of remarks.
 *
 * Decides: how findings are kept and shown, and which make the verb fail. Knows nothing of NATS or rooms. One thread.
 */
#ifndef ROOMCTL_FINDINGS_H
#define ROOMCTL_FINDINGS_H

#include <jansson.h>
#include <stdbool.h>

enum finding_level { FINDING_OK, FINDING_NOTE, FINDING_WARN, FINDING_FAIL };

/* An array of {level, id, text}; NULL: no memory. */
json_t *findings_new(void);

/* `about` says what it is about, e.g. "room lobby-1". */
void findings_add(json_t *list, enum finding_level level, const char *about, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

size_t findings_count(json_t *list, enum finding_level level);

/* Those of one level, as a new array. */
json_t *findings_only(json_t *list, enum finding_level level);

/* Those of `now` whose `about` and `rule` are also in `before`; a new array. The rule is the text before the first ':'. */
json_t *findings_lasting(json_t *before, json_t *now);

/* One line each on standard output, control characters shown as '?'. */
void findings_print(json_t *list);

#endif
