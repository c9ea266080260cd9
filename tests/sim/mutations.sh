#!/bin/sh
# Does the simulator see what it is for? Breaks one rule at a time in a copy of one source file, links the simulator
# against it, and runs seeds until one fails. Prints which seed caught which mutation; exit code 1 if one survived.
#   tests/sim/mutations.sh [BUILD] [SEEDS]      after ninja -C BUILD; defaults: build, 300
# A mutation is a sed expression that must change the file: one that no longer fits is reported, not passed over.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "${1:-$root/build}" && pwd)
seeds=${2:-300}
msgpack=$(pkg-config --libs msgpack-c 2> /dev/null || pkg-config --libs msgpack) # the newer name, the older one
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rc=0

caught() { # name, guarantee, sim and its options
    name=$1 what=$2
    shift 2
    if "$@" --from 1 --count "$seeds" --first > "$work/out" 2>&1; then
        echo "SURVIVED $name ($what): $seeds seeds saw nothing"
        rc=1
    else
        line=$(grep -m 1 FAILED "$work/out" || echo "it crashed: $(tail -n 1 "$work/out")")
        echo "caught   $name ($what): $line"
    fi
}

mutate() { # name, guarantee, file, sed expression
    sed -E "$4" "$root/src/$3" > "$work/mutant.c"
    if cmp -s "$work/mutant.c" "$root/src/$3"; then
        echo "BROKEN   $1: the expression changes nothing in src/$3"
        rc=1
        return
    fi
    ${CC:-cc} -std=c11 -D_GNU_SOURCE -g -O1 -fno-strict-aliasing -w -I"$root/src" -I"$root/include" -I"$build/src" \
        -c "$work/mutant.c" -o "$work/mutant.o"
    # The mutant comes first, so that the archive's own member of that name is never pulled in.
    ${CC:-cc} -o "$work/sim" "$work/mutant.o" "$build"/tests/sim/sim.p/*.o -Wl,--start-group "$build"/src/node/libnode.a \
        "$build"/src/room/libroom.a "$build"/src/core/libcore.a "$build"/src/wire/libwire.a "$build"/src/base/libbase.a \
        -Wl,--end-group -lxxhash $msgpack -lm -ldl 2> "$work/link" ||
        { echo "BROKEN   $1: $(head -n 1 "$work/link")"; rc=1; return; }
    caught "$1" "$2" "$work/sim"
}

sim=$build/tests/sim/sim
caught stale-cas "G1: the registry lets a stale write win" "$sim" --mutate stale-cas
caught unknown-is-conflict "unknown reported as conflict" "$sim" --mutate unknown-is-conflict
mutate no-epoch-compare "G1: a foreign entry is taken for ours" core/owner.c \
    '/^static bool foreign/,/^}/s/return .*/return false \&\&/'
mutate epochs-begin-anew "G1: a name used again starts at epoch 1" core/owner.c \
    's/o->info.epoch = first_epoch.*;/o->info.epoch = 1;/'
mutate no-seat-check "G6: a full room takes one more" room/seats.c \
    's/reserved >= s->max/reserved > s->max/'
mutate no-reap "G9: rooms of the dead stay listed" core/reap.c 's/^    if \(!self_serves\(c\) \|\|/    if (1 ||/'
mutate no-read-back "G9: an unknown write is taken for done" core/owner.c 's/        o->unsure = true;\n        mark/        mark/; /^void owner_kv_done/,/^}/s/o->unsure = true;/o->unsure = false;/'
mutate create-ids-ignored "G10: a repeated create makes another room" core/join.c \
    's/id_derived\(room, [^;]*;/id_ulid(room, c->wall, \&c->rng);/'
mutate fence-ignored "G10: a node that was declared down writes on" core/self.c \
    's/^(static void fenced\(.*)$/\1/; /^static void check_done/,/^}/s/ev->server->status == SERVER_DOWN \|\| strcmp[^{]*\{/0) {/'
mutate links-do-not-repeat "order: a lost batch is not sent again, nor the link given up" node/link.c \
    's/(RESEND_MS|GIVE_UP_MS) = [0-9]+/\1 = 100000000/g'
mutate links-pass-over-gaps "order: what comes after a lost batch is delivered" node/link.c 's/m.seq != l->expected/m.seq < l->expected/'
exit $rc
