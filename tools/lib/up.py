"""The show of tools/up: 3 NATS servers, 3 nodes, bots; live status, and with --once a kill in the middle and a verdict.

Decides what is started, when the node is killed and what counts as held; it must not know how rooms work: the truth
comes from `roomctl` and from the bots, who remember what was acknowledged to them. Invariant: everything it started is
stopped by pid on every way out.
"""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from nats_cluster import Cluster, die_with_parent

NODES = ('node-1', 'node-2', 'node-3')
VICTIM = 'node-2'
ONCE_SECONDS, KILL_AFTER_S = 20, 8
READY_S, NOTICE_S, STOP_S, LATE_SECONDS = 20, 6, 15, 3
RATE = 14  # messages per second, bot and room
LIVE_SECONDS = 24 * 3600


class Failed(Exception):
    """Something did not hold; the text says what and where to look."""


class Show:
    def __init__(self, tree, run, nats_server):
        self.tree, self.run, self.nats_server = tree, run, nats_server
        self.cluster, self.nodes, self.bots, self.killed = None, {}, None, []
        self.env = dict(os.environ)

    def program(self, name):
        for folder, _, names in os.walk(self.tree):
            path = os.path.join(folder, name)
            if name in names and os.path.isfile(path) and os.access(path, os.X_OK):
                return os.path.abspath(path)
        raise Failed('%s is not in %s: the build did not make it' % (name, self.tree))

    def spawn(self, name, command):
        """stdout and stderr go to files: nobody has to drain them."""
        with open(os.path.join(self.run, name + '.out'), 'wb') as out, \
                open(os.path.join(self.run, name + '.err'), 'wb') as err:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=self.env,
                                    start_new_session=True, preexec_fn=die_with_parent)

    def output(self, name, kind='out'):
        with open(os.path.join(self.run, '%s.%s' % (name, kind)), encoding='utf-8', errors='replace') as f:
            return f.read()

    def start_nats(self):
        self.cluster = Cluster(os.path.join(self.run, 'nats'), self.nats_server)
        self.cluster.start()
        self.env['NATS_URL'] = ','.join(self.cluster.urls())
        print('up: NATS       ' + ' '.join(self.cluster.urls()), flush=True)

    def start_nodes(self):
        roomd = self.program('roomd')
        for name in NODES:
            self.nodes[name] = {'process': self.spawn(name, [
                roomd, '--server-id', name, '--listen', '127.0.0.1:0', '--nats', self.env['NATS_URL'],
                # The bots begin their rooms from all nodes in turn, so that each owns some of every kind.
                '--prefer-local', '--data-dir', os.path.join(self.run, 'data')]), 'listen': None}
        for name in NODES:
            self.nodes[name]['listen'] = self.wait_ready(name)
            print('up: %-10s %s' % (name, self.nodes[name]['listen']), flush=True)

    def wait_ready(self, name):
        """`ready server=<id> listen=<host:port>` on the node's stdout."""
        deadline = time.monotonic() + READY_S
        while True:
            for line in self.output(name).split('\n')[:-1]:
                words = line.split()
                if words and words[0] == 'ready':
                    fields = dict(w.split('=', 1) for w in words[1:] if '=' in w)
                    if 'listen' in fields:
                        return fields['listen']
            code = self.nodes[name]['process'].poll()
            if code is not None or time.monotonic() > deadline:
                sys.stderr.write(self.output(name, 'err')[-2000:])
                why = 'ended with %d' % code if code is not None else 'is not ready after %d s' % READY_S
                raise Failed('%s %s, see %s/%s.err' % (name, why, self.run, name))
            time.sleep(0.05)

    def spawn_bots(self, name, nodes, seconds):
        servers = ','.join(self.nodes[n]['listen'] for n in nodes)
        return self.spawn(name, [self.program('roombench'), 'bots', '--servers', servers, '--seconds', str(seconds),
                                 '--rate', str(RATE), '--json'])

    def start_bots(self, seconds):
        self.bots = self.spawn_bots('bots', NODES, seconds)
        print('up: bots play for %d s' % seconds if seconds != LIVE_SECONDS else 'up: bots play until Ctrl-C', flush=True)

    def roomctl(self, *words):
        """(exit code, stdout); a roomctl that hangs is a failure, not a hang of ours."""
        try:
            done = subprocess.run([self.program('roomctl')] + list(words), env=self.env, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10)
            return done.returncode, done.stdout
        except subprocess.TimeoutExpired:
            return 1, 'roomctl %s: no answer in 10 s\n' % ' '.join(words)

    def rows(self, *words):
        """What `roomctl ... --json` lists; nothing while it cannot."""
        try:
            return json.loads(self.roomctl(*words, '--json')[1])
        except ValueError:
            return []

    def server_status(self, server):
        return next((row['status'] for row in self.rows('servers') if row['id'] == server), None)

    def show_status(self):
        print('\n-- %s' % time.strftime('%H:%M:%S'))
        print(self.roomctl('servers')[1].rstrip())
        print(self.roomctl('rooms', '--limit', '10')[1].rstrip(), flush=True)

    def kept_rooms(self):
        """How many rooms that outlive their owner the victim has."""
        return sum(room['owner'] == VICTIM and room['durability'] != 'none' for room in self.rows('rooms'))

    def kill_node(self):
        """kill -9, then how long the others take to know. Answers seconds."""
        node = self.nodes[VICTIM]['process']
        print('\nup: kill -9 %s (pid %d)' % (VICTIM, node.pid), flush=True)
        self.killed.append(VICTIM)
        node.kill()
        node.wait()
        start = time.monotonic()
        while self.server_status(VICTIM) != 'down':
            if time.monotonic() - start > NOTICE_S:
                raise Failed('%s was killed and is not listed as down after %d s' % (VICTIM, NOTICE_S))
            time.sleep(0.05)
        took = time.monotonic() - start
        print('up: the others know after %.2f s' % took, flush=True)
        return took

    def join_anew(self):
        """New players and new rooms after the death: none may be sent to the dead node. Answers the new rooms' owners."""
        before = {room['id'] for room in self.rows('rooms')}
        late = self.spawn_bots('late', [n for n in NODES if n != VICTIM], LATE_SECONDS)
        end, owners = time.monotonic() + LATE_SECONDS + 30, {}
        while late.poll() is None:  # their rooms end with them
            owners.update((room['id'], room['owner']) for room in self.rows('rooms') if room['id'] not in before)
            if time.monotonic() > end:
                late.kill()
                raise Failed('the late bots did not end, see %s/late.err' % self.run)
            time.sleep(0.1)
        code = late.returncode
        if code != 0:
            sys.stderr.write(self.output('late')[-2000:])
            raise Failed('new players after the death of %s: the bots say %d' % (VICTIM, code))
        owners = list(owners.values())
        if not owners or VICTIM in owners:
            raise Failed('new rooms after the death of %s are owned by %s' % (VICTIM, owners or 'nobody'))
        return {owner: owners.count(owner) for owner in sorted(set(owners))}

    def watch(self, until, every, may_die=False):
        """Shows the cluster until the time has come or the bots have ended; a node that died by itself fails it."""
        shown = 0.0
        while time.monotonic() < until and self.bots.poll() is None:
            if time.monotonic() - shown >= every:
                self.show_status()
                shown = time.monotonic()
            for name in [n for n in self.nodes if n not in self.killed]:
                self.look_after(name, may_die)
            time.sleep(0.1)

    def look_after(self, name, may_die):
        """Whoever looks at the live show may kill a node to see what happens, as long as one is left."""
        code = self.nodes[name]['process'].poll()
        if code is None:
            return
        self.killed.append(name)
        if code != -signal.SIGKILL or not may_die or len(self.killed) == len(self.nodes):
            raise Failed('%s ended with %d, see %s/%s.err' % (name, code, self.run, name))
        print('\nup: %s was killed: the others take its rooms over' % name, flush=True)

    def once(self):
        self.start_bots(ONCE_SECONDS)
        started = time.monotonic()
        self.watch(started + KILL_AFTER_S, 4)
        if self.bots.poll() is not None:
            sys.stderr.write(self.output('bots', 'err')[-2000:])
            raise Failed('the bots ended early, see %s/bots.err' % self.run)
        kept = self.kept_rooms()
        if not kept:
            raise Failed('%s owns none of the rooms that are kept: there is nothing to show' % VICTIM)
        took = self.kill_node()
        anew = self.join_anew()
        self.watch(started + ONCE_SECONDS + 60, 4)
        if self.bots.poll() is None:
            raise Failed('the bots did not end 60 s after their time')
        self.show_status()
        check, text = self.roomctl('check')
        print('\n== summary')
        print('%d NATS servers' % len(self.cluster.servers))
        for line in self.rows('doctor'):
            if line['id'].startswith('bucket '):
                print('%s: %s' % (line['id'], line['text']))
        print('%d nodes; %s killed, noticed after %.2f s' % (len(NODES), VICTIM, took))
        print('new rooms and joins after that: on ' + ', '.join('%s: %d' % pair for pair in anew.items()))
        print('bots: exit code %d' % self.bots.returncode)
        report = self.print_bots()
        recovered = self.print_recovery(report, kept)
        print('roomctl check: exit code %d\n%s' % (check, text.rstrip()))
        held = self.bots.returncode == 0 and check == 0 and recovered
        print('all held' if held else 'NOT all held, see %s' % self.run, flush=True)
        return 0 if held else 1

    def print_recovery(self, report, kept):
        """The bots' ledger, told in words; whether it balances, and every kept room of the victim was served again."""
        if not report:
            return False
        acked, found, doubt = (report['adds_' + key] for key in ('acknowledged', 'found', 'in_doubt'))
        took = report['recovery_ms']
        print('rooms of %s that are kept: %d; served again by another owner: %d' % (VICTIM, kept, report['rooms_recovered']))
        print('time to recovery: half of them within %(p50)d ms, all within %(max)d ms' % took)
        print('adds acknowledged: %d; adds found: %d; in doubt when %s died (no answer came): %d' % (acked, found, VICTIM, doubt))
        return report['rooms_recovered'] >= kept and acked <= found <= acked + doubt

    def print_bots(self):
        """Answers the report, or None if there is none."""
        text = self.output('bots').strip()
        try:
            report = json.loads(text.split('\n')[-1] if text and not text.startswith('{\n') else text)
        except ValueError:
            report = None
        if not isinstance(report, dict):
            print(text[-2000:])
            return None
        for key, value in report.items():
            print('  %-24s %s' % (key, value if isinstance(value, (int, float, str)) else json.dumps(value)))
        return report

    def live(self):
        self.start_bots(LIVE_SECONDS)
        print('up: try  NATS_URL=%s %s watch' % (self.env['NATS_URL'], self.program('roomctl')))
        self.watch(time.monotonic() + LIVE_SECONDS, 3, may_die=True)
        raise Failed('the bots ended with %s, see %s/bots.err' % (self.bots.poll(), self.run))

    def stop(self):
        if self.bots and self.bots.poll() is None:
            self.bots.terminate()
        left = [n['process'] for n in self.nodes.values()] + ([self.bots] if self.bots else [])
        # A node drains on the first signal and stops at once on the second.
        for signum, seconds in ((signal.SIGTERM, 3), (signal.SIGTERM, STOP_S), (signal.SIGKILL, 5)):
            left = [p for p in left if p.poll() is None]
            for p in left:
                p.send_signal(signum)
            deadline = time.monotonic() + seconds
            while any(p.poll() is None for p in left) and time.monotonic() < deadline:
                time.sleep(0.05)
        if self.cluster:
            self.cluster.stop()


def main():
    args = argparse.ArgumentParser(prog='up')
    for name in ('--tree', '--run', '--nats-server'):
        args.add_argument(name, required=True)
    args.add_argument('--once', action='store_true')
    args = args.parse_args()

    def leave(signum, frame):
        raise KeyboardInterrupt
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, leave)
    shutil.rmtree(args.run, ignore_errors=True)
    os.makedirs(args.run)
    show = Show(args.tree, args.run, args.nats_server)
    try:
        for name in ('roomd', 'roomctl', 'roombench'):
            show.program(name)
        show.start_nats()
        show.start_nodes()
        return show.once() if args.once else show.live()
    except (Failed, RuntimeError, OSError) as e:
        print('up: %s' % e, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nup: stopping')
        return 130 if args.once else 0
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        show.stop()


if __name__ == '__main__':
    sys.exit(main())
