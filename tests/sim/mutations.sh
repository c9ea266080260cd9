#!/bin/sh
# Does the simulator see what it is for? Breaks one rule at a time in a copy of one source file, links the simulator
# against it, and runs seeds until one fails: those that have failed before, those that have caught a mutation that few
# do, then others. Prints which seed caught which mutation; exit code 1 if one survived.
#   tests/sim/mutations.sh [BUILD] [SEEDS] [all]      after ninja -C BUILD; defaults: build, 300
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
    if "$@" --file "$root/tests/sim/seeds/failed.txt" --first > "$work/out" 2>&1 &&
        "$@" --file "$root/tests/sim/seeds/mutants.txt" --first > "$work/out" 2>&1 &&
        "$@" --from 1 --count "$seeds" --first > "$work/out" 2>&1; then
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
        "$build"/src/store/libstore.a "$build"/src/room/libroom.a "$build"/src/core/libcore.a "$build"/src/wire/libwire.a "$build"/src/base/libbase.a \
        "$build"/src/login/liblogin.a -Wl,--end-group -lxxhash -lgnutls -ljansson $msgpack -lm -ldl 2> "$work/link" ||
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
mutate no-reap "G9: rooms of the dead stay listed" core/reap.c 's/return self_serves\(c\) \&\&/return 0 \&\&/'
mutate no-read-back "G9: an unknown write is taken for done" core/owner.c 's/        o->unsure = true;\n        mark/        mark/; /^void owner_kv_done/,/^}/s/o->unsure = true;/o->unsure = false;/'
mutate create-ids-ignored "G10: a repeated create makes another room" core/join.c \
    's/id_derived\(room, [^;]*;/id_ulid(room, c->wall, \&c->rng);/'
mutate fence-ignored "G10: a node that was declared down writes on" core/self.c \
    's/^(static void fenced\(.*)$/\1/; /^static void check_done/,/^}/s/ev->server->status == SERVER_DOWN \|\| strcmp[^{]*\{/0) {/'
mutate links-do-not-repeat "order: a lost batch is not sent again, nor the link given up" node/link.c \
    's/(RESEND_MS|GIVE_UP_MS) = [0-9]+/\1 = 100000000/g'
mutate links-pass-over-gaps "order: what comes after a lost batch is delivered" node/link.c 's/m.seq != l->expected/m.seq < l->expected/'
mutate takeover-keeps-the-epoch "G1: a room is taken over at the epoch of its former owner" core/restore.c \
    '/^bool restore_claim/,/^}/s/o->info.epoch\+\+;//'
mutate writes-behind-a-later-owner "G1: the fence is moved behind what a later owner has written" node/append.c \
    's/(else if .*) m.epoch < j->epoch\) \{/\1 m.epoch != j->epoch) {/'
mutate no-mark "G1: the journal is read without a fence" node/revive.c \
    '/^static void last_seen/,/^}/s/go\(n, r, STEP_MARK\);/r->any = r->last > 0, build(n, r);/; /^static void build/,/^}/s/    go\(n, r, STEP_READ\);/    r->at < r->last ? go(n, r, STEP_READ) : resume(n, r);/'
mutate unknown-append-is-done "G2: an append without an answer is taken for durable" node/append.c \
    '/^void append_done/,/^}/s/        pause\(n, j\);/        durable(n, j, j->last);/'
mutate chain-not-checked "G2: a gap in the journal is read over" node/revive.c \
    's/if \(m.before != r->at\) \{/if (0) {/'
mutate purged-too-far "G2: the message behind a snapshot is purged" node/carry.c \
    's/append_purge\(n, c->room.s, c->mark.position\)/append_purge(n, c->room.s, c->mark.position + 2)/'
mutate sent-before-it-is "G2: a snapshot leaves the outbox before the bucket has it" node/carry.c \
    '/^static void looked/,/^}/s/put_entry\(n, c\);/sent(n, c);/'
mutate said-before-durable "G2: players are told what the journal does not have yet" room/out.c 's/if \(!journal_holds\(r\)\)/if (1)/'
mutate applied-twice "G3: what was answered is done again" room/replies.c \
    's/if \(n <= 0 \|\| n > r->last_n\)/if (1)/; s/ASSERT\(n > r->last_n\);//'
mutate overtaken "G2: what was refused for a while is overtaken, and then counts as done" node/relay.c \
    's/member->refused = .*/member->refused = false;/'
mutate name-forgotten "G2: a room that has ended takes the journal of the next of its name along" node/append.c \
    's/set_purge\(n, room, last \+ 1, true\);/set_purge(n, room, 0, true);/'
mutate given-away-at-the-same-epoch "G1: a room that moves keeps its epoch" core/move.c \
    '/^bool move_write/,/^}/s/entry.epoch\+\+;//'
mutate commit-does-not-compare "G1: a room is given away whoever has it by now" core/move.c \
    '/^bool move_write/,/^}/s/&entry, o->revision\)/\&entry, UINT64_MAX)/'
mutate rolled-back-on-a-read "G1: a commit that may be applied yet is taken for refused" core/owner.c \
    '/^static void still_ours/,/^}/s/    else if \(!o->only_read/    else if (o->state == OWNED_KEEPING) move_keep(c, o);\n&/'
mutate serves-on-after-the-commit "G10: the room plays on where it was" core/move.c \
    '/^bool move_settled/,/^}/s/CORE_FX_ROOM_DROP/CORE_FX_ROOM_KEEP/'
mutate comes-back-after-its-end "G1: a room that ended at its next owner is listed again" core/owner.c \
    's/if \(!found && move_over\(/if (0 \&\& move_over(/'
mutate no-final-snapshot "G2: a room moves without what it did since it was saved last" node/keep.c \
    's/if \(host_room_unsaved\(r\) \|\| k->passing\)/if (k->passing)/; s/bool at_rest = .*/bool at_rest = true;/'
mutate moves-before-its-journal "G2: a room is given away before its journal has anything of it" node/keep.c \
    's/ && !host_room_waits\(r\)//'
mutate older-snapshot-taken "G2: a stale answer of the bucket stands for the snapshot of a move" node/revive.c \
    '/^static bool stale/,/^}/s/return .*/return false;/'
mutate stands-still-for-ever "G9: a room that does not move after all is not let go on" node/keep.c \
    '/^void keep_stay/,/^}/s/attach_still\(.*/;/'
mutate drains-for-ever "G9: undrain does nothing" core/drain.c 's/if \(on == c->drain.shown.on \|\|/if (!on ||/'
mutate heard-while-away "order: a player who waits for his room hears what it says to others" node/relay.c \
    '/^static bool hears/,/^}/s/!p->away && //'
mutate entry-not-compared "G5: a login takes the player's entry whoever has it by now" node/presence.c \
    '/^static void claim/,/^}/s/a->revision, n->scratch/BUS_ANY_REVISION, n->scratch/'
mutate replaced-not-told "G5: the session before is not told that it was replaced" node/presence.c \
    '/^static void won/,/^}/s/if \(a->other\.s\[0\]\)/if (0)/'
mutate end-not-compared "G5: a session that ends takes the entry of the next one along" node/presence.c \
    '/^void presence_end/,/^}/s/s->claim, KV_MS/BUS_ANY_REVISION, KV_MS/'
mutate late-login-wins "G5: who was welcome without the registry takes the entry, though nobody is there" node/settle.c \
    '/^bool arrival_may_take/,/^}/s/return .*/return true;/'
mutate stale-look-believed "G5: a read of a former leader tells that somebody else has logged in" node/presence.c \
    's/if \(s && entry && \(ev->revision < /if (0 \&\& (ev->revision < /'
mutate former-gateway-not-told "G4: a gateway that was not asked keeps a session that goes on elsewhere" node/presence.c \
    's/\} else if \(a->left\) \{ .*/} else if (0) {/'
mutate given-and-kept "G4: a session that was handed over stays" node/handover.c '/^static void give/,/^}/s/    session_moved\(n, s\);//'
mutate ends-with-its-connection "G4: a session does not wait for its player" node/resume.c 's/n->config.hold_ms <= 0/n->config.hold_ms > 0/'
mutate tail-one-short "G4: what is said again begins one message late" node/resume.c \
    's/    say_again\(n, s, from\);/    say_again(n, s, from + 1);/'
mutate tail-drops-one-more "G4: an acknowledgement drops the message after it" node/tail.c \
    '/^void tail_acknowledge/,/^}/s/t->floor < seq\)/t->floor <= seq)/'
mutate missed-not-declared "G4: messages that are not kept are passed over in silence" node/resume.c \
    's/^    if \(gap\)$/    if (0)/'
mutate state-not-sent-anew "G4: after a gap the rooms' state is not sent" node/resume.c 's/tell_places\(n, s, gap\)/tell_places(n, s, false)/'
mutate numbers-not-carried "G4: a session that is handed over begins its numbers anew" node/handover.c \
    's/tail_begin_after\(&s->tail, n->alloc, \(uint64_t\)m->floor\)/tail_begin_after(\&s->tail, n->alloc, 0)/'
mutate tail-not-carried "G4: what a session has yet to hear is not handed over with it" node/handover.c \
    '/^static uint64_t write_messages/,/^}/s/while \(floor > seen && /while (false \&\& /'
mutate seats-not-held "G4: a session that is handed over loses its seats" node/session.c \
    's/\(void\)host_hold\(n->host, p->room.s, who, n->now\);/host_leave(n->host, p->room.s, who, reason, n->now);/'
mutate seats-not-listed "G4: what is written down of a session names no rooms" node/handover.c \
    's/^(        if \(!p->joined)\)$/\1 || out != NULL)/; s/count \+= p->joined;/count += 0;/'
mutate join-asked-twice "G3: a join that is asked again takes another seat" node/frames.c \
    's/    if \(joined_before\(n, s, m\)\)/    if (0)/'
# Below: what one seed in thousands sees, or none that is known; by hand only.
[ "${3:-}" = all ] || exit $rc
mutate overtaken-at-home "order: what waited for a room that came here is overtaken" node/frames.c 's/p->sends.count \|\| //'
mutate plays-on-when-reached "G10: a node that is reached again lets a room play on that it gives away" node/attach.c \
    's/isolated \|\| \(k && k->still\)/isolated/'
mutate earlier-hello-wins "G5: of two logins at one node the one that is looked up last has the player" node/settle.c \
    '/^bool arrival_outdone/,/^}/s/return .*/return false;/'
mutate not-fetched-again "G4: a session that went to a third gateway meanwhile is taken up as it was before" node/presence.c \
    's/\} else if \(a->resumed && same && moved_on && a->made\)/} else if (0)/'
mutate older-gateway-heard "G4: a seat follows a gateway that has lost the session" node/relay.c \
    's/if \(m->has_claim && \(uint64_t\)m->claim < newest\)/if (0)/'
mutate seated-in-a-still-room "G3: a message is refused by a room that stands still, though it was done before" node/attach.c \
    's/    p->away = stands_still\(.*/    p->away = false;/'
exit $rc
