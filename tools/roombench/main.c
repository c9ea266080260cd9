/*
 * roombench: what a roomd cluster does and how fast, seen from outside.
 *
 * Decides: the command line. Must not measure anything itself. Invariant: exit 0 is success, 1 a failed check, 2 a wrong
 * command line.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/roombench/bots.h"
#include "tools/roombench/scenarios.h"

static int usage(FILE *to)
{
    fputs("usage: roombench bots --servers HOST:PORT,... [--seconds N] [--bots K] [--rate R] [--json]\n"
          "       roombench run [--roomd PATH] [--nats-server PATH] [--rooms N] [--only SCENARIO] [--quick] [--json]\n"
          "bots: players spread over all servers join common rooms, speak, and check that they hear everything once and\n"
          "      in order. Exit 1 if not, if a server had no bots, or if no room was shared across servers.\n"
          "run:  starts a NATS server and two nodes, and measures them beside what the machine gives without them; joins with\n"
          "      a tenth of N and with N other rooms listed (50000; --quick: 5000). Scenarios: memory, speed, journal, replicas,\n"
          "      snapshots, lost, sessions, queue.\n",
          to);
    return 2;
}

/* A number from 1 to `max`; 0: it is none. */
static unsigned number(const char *text, unsigned max)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    return *text && !*end && v <= max ? (unsigned)v : 0;
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"servers", required_argument, NULL, 's'}, {"seconds", required_argument, NULL, 't'},
        {"bots", required_argument, NULL, 'b'},    {"rate", required_argument, NULL, 'r'},
        {"roomd", required_argument, NULL, 'd'},   {"nats-server", required_argument, NULL, 'n'},
        {"rooms", required_argument, NULL, 'm'},   {"quick", no_argument, NULL, 'q'},
        {"only", required_argument, NULL, 'o'},    {"json", no_argument, NULL, 'j'},          {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    struct bots_options bots = {.seconds = 10, .bots = 24, .rate = 20};
    struct scenarios_options run = {.roomd = "roomd", .nats_server = "nats-server"};
    int opt;
    while ((opt = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (opt) {
        case 's': bots.servers = optarg; break;
        case 't': bots.seconds = number(optarg, 86400); break;
        case 'b': bots.bots = number(optarg, 5000); break;
        case 'r': bots.rate = number(optarg, 1000); break;
        case 'd': run.roomd = optarg; break;
        case 'n': run.nats_server = optarg; break;
        case 'm': run.rooms = number(optarg, 1000000); break;
        case 'o': run.only = optarg; break;
        case 'q': run.quick = true; break;
        case 'j': bots.json = run.json = true; break;
        case 'h': usage(stdout); return 0;
        default: return usage(stderr);
        }
    }
    if (optind + 1 != argc)
        return usage(stderr);
    if (strcmp(argv[optind], "bots") == 0 && bots.servers && bots.seconds && bots.bots && bots.rate)
        return bots_play(&bots);
    if (strcmp(argv[optind], "run") == 0 && (!run.only || scenarios_has(run.only)))
        return scenarios_run(&run);
    return usage(stderr);
}
