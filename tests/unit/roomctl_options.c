/*
 * roomctl's command line: what is taken, what is refused and how the refusal reads.
 *
 * Pure: no NATS, no files. Invariant: every refusal says what to do.
 */
#include <criterion/criterion.h>

#include <string.h>

#include "roomctl/options.h"
#include "roomctl/settings.h"

static unsigned verbs(const char *name, const char *sub)
{
    if (strcmp(name, "snapshot") == 0)
        return !sub ? OPT_FAMILY : strcmp(sub, "import") == 0 ? OPT_COMMON | OPT_FORCE : 0;
    return strcmp(name, "drain") == 0   ? OPT_COMMON | OPT_DRAIN
           : strcmp(name, "rooms") == 0   ? OPT_COMMON | OPT_TYPE | OPT_FILTER | OPT_SERVER | OPT_LIMIT | OPT_SORT
           : strcmp(name, "room") == 0  ? OPT_COMMON
                                        : 0;
}

static int parse(const char *line, struct options *o, struct err_detail *detail)
{
    static char copy[300];
    char *argv[16] = {(char[]){"roomctl"}}, *save = NULL;
    int argc = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok_r(copy, " ", &save); word && argc < 16; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    detail->text[0] = 0;
    return options_parse(argc, argv, verbs, o, detail);
}

Test(roomctl_options, taken)
{
    struct options o;
    struct err_detail d;
    cr_assert_eq(parse("rooms --type chess --has-space --unlocked --server node-1 --limit 5 --sort=-players --json", &o, &d),
                 0, "%s", d.text);
    cr_assert_str_eq(o.type, "chess");
    cr_assert_str_eq(o.server, "node-1");
    cr_assert_str_eq(o.sort, "-players");
    cr_assert(o.has_space && o.unlocked && o.json);
    cr_assert_eq(o.limit, 5);
    cr_assert_null(o.nats);
    cr_assert_eq(o.timeout_ms, OPTIONS_TIMEOUT_MS);
    cr_assert_eq(parse("-s nats://a:1 --timeout 250ms room r-1", &o, &d), 0);
    cr_assert_str_eq(o.nats, "nats://a:1");
    cr_assert_eq(o.timeout_ms, 250);
    cr_assert_str_eq(o.args[0], "r-1");
    cr_assert_eq(parse("room -- -r", &o, &d), 0);
    cr_assert_str_eq(o.args[0], "-r");
}

Test(roomctl_options, verbs_of_two_words)
{
    struct options o;
    struct err_detail d;
    cr_assert_eq(parse("-s nats://a:1 snapshot import --force file", &o, &d), 0, "%s", d.text);
    cr_assert_str_eq(o.verb, "snapshot");
    cr_assert_str_eq(o.sub, "import");
    cr_assert_str_eq(o.args[0], "file");
    cr_assert(o.force);
    cr_assert_eq(parse("snapshot --help", &o, &d), 0);
    cr_assert(o.help && !o.sub);
    cr_assert_eq(parse("drain n1 --deadline 2m --no-wait", &o, &d), 0);
    cr_assert(o.deadline_ms == 120000 && o.no_wait && !o.sub);
    cr_assert_eq(parse("drain n1", &o, &d), 0);
    cr_assert_eq(o.deadline_ms, OPTIONS_DEADLINE_MS);
}

Test(roomctl_options, spans)
{
    int64_t ms;
    cr_assert(options_span("1s", &ms) == 0 && ms == 1000);
    cr_assert(options_span("90m", &ms) == 0 && ms == 5400000);
    cr_assert(options_span("12h", &ms) == 0 && ms == 43200000);
    cr_assert(options_span("3650d", &ms) == 0 && ms == INT64_C(315360000000));
    static const char *const bad[] = {"", "1", "s", "0s", "-1s", "1w", "1 s", "1.5h", "3651d", "99999999999999999999d",
                                      "2147483648s"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_eq(options_span(bad[i], &ms), ROOM_E_INVALID, "'%s'", bad[i]);
}

Test(roomctl_options, server_is_nats_or_a_node)
{
    struct options o;
    struct err_detail d;
    cr_assert_eq(parse("--server localhost rooms", &o, &d), 0);
    cr_assert(o.nats && !o.server);
    cr_assert_eq(parse("room x --server localhost", &o, &d), 0);
    cr_assert(o.nats && !o.server);
    cr_assert_eq(parse("rooms --server localhost", &o, &d), 0);
    cr_assert(!o.nats && o.server);
    cr_assert_eq(parse("rooms --server nats://localhost:4222", &o, &d), 0);
    cr_assert(o.nats && !o.server);
}

Test(roomctl_options, refused)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"rooms --foo", "unknown option '--foo'"}, {"room x --limit 3", "'room' takes no option '--limit'"},
        {"zooms", "unknown verb 'zooms'"}, {"rooms --limit", "needs a value"}, {"rooms --limit 0", "invalid --limit '0'"},
        {"rooms --limit 5x", "invalid --limit"}, {"rooms --limit 99999999999999999999", "invalid --limit"},
        {"rooms --timeout 0", "invalid --timeout"}, {"rooms --timeout 2h", "invalid --timeout"}, {"rooms --json=1", "takes no value"},
        {"rooms --type=", "empty --type"}, {"rooms a b c", "too many arguments"}, {"-x", "unknown option '-x'"},
        {"rooms -hx", "unknown option"}, {"snapshot dance", "unknown verb 'snapshot dance': see roomctl snapshot --help"},
        {"snapshot import --limit 3", "'snapshot import' takes no option '--limit'"},
        {"room x --force", "'room' takes no option '--force'"}, {"drain n1 --deadline never", "invalid --deadline 'never'"},
    };
    struct options o;
    struct err_detail d;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(parse(cases[i].line, &o, &d), ROOM_E_INVALID, "%s", cases[i].line);
        cr_assert(strstr(d.text, cases[i].says), "%s: %s", cases[i].line, d.text);
    }
}

Test(roomctl_options, durations)
{
    int ms = 0;
    cr_assert(options_duration("2", &ms) == 0 && ms == 2000);
    cr_assert(options_duration("1.5s", &ms) == 0 && ms == 1500);
    cr_assert(options_duration("1m", &ms) == 0 && ms == 60000);
    cr_assert(options_duration("nan", &ms) && options_duration("-1s", &ms) && options_duration("61m", &ms));
    cr_assert(options_duration("", &ms) && options_duration("1 s", &ms) && ms == 60000);
}

Test(roomctl_options, passwords_are_not_shown)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"at nats://bob:secret@h:1,tls://eve:p@ss@i:2: no", "at nats://***@h:1,tls://***@i:2: no"},
        {"at nats://h:1: no", "at nats://h:1: no"},
        {"at nats://ab@h:1", "at nats://"},
    };
    char text[320];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text, "%s", cases[i].text);
        settings_redact(text, sizeof text);
        cr_assert_str_eq(text, cases[i].want);
    }
    memcpy(text, "nats://averylongpas", 20);
    settings_redact(text, 20);
    cr_assert_str_eq(text, "nats://");
}
