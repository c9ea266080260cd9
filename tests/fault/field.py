"""What every fault test has: a cluster of real processes, rooms full of players who keep a ledger, and the oracles.

Decides how the load is laid out (which node owns which rooms, who is connected where) and what is asked at the end: the
ledger, `roomctl check`, and the events. A test decides the fault.
"""
import asyncio
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(HERE, '..', 'integration'), os.path.join(HERE, '..', 'support')]
import ledger  # noqa: E402
from cluster import World, until  # noqa: E402
from watcher import Watcher  # noqa: E402

NODE_OPTIONS = ('--prefer-local', '--room-ttl', '0')


class Field:
    """`async with Field(world, roomctl) as f:`; f.fill() lays out the load, f.settle() judges it."""

    def __init__(self, w, roomctl):
        self.w, self.roomctl, self.accounts, self.players = w, roomctl, [], []

    async def __aenter__(self):
        self.watch = await Watcher(self.w.urls[0]).__aenter__()
        for subject in ('room.*.migrated', 'room.*.disposed', 'server.*.offline'):
            self.watch.subscribe(subject)

        async def whole():
            try:
                infos = [await self.watch.ctl(n.name, wait_s=5, op='info') for n in self.w.nodes]
            except ValueError:  # nobody answers: a NATS server has not heard yet of what a node subscribes on another one
                return False
            return all(i['result']['cluster'] for i in infos)
        await until(whole, 'every node has the registries of the cluster, which may be a second old')
        return self

    async def __aexit__(self, *_):
        await asyncio.gather(*(p.end() for p in self.players))
        await self.watch.__aexit__()

    async def fill(self, owner, rooms, players, prefix, gateways=None):
        """Rooms owned by `owner`; player i of each is connected to gateways[i] and goes on at the next ones. Waits until each
        room has acknowledged something to everybody."""
        nodes = self.w.nodes
        gateways = gateways or nodes
        fresh = []
        for r in range(rooms):
            account = ledger.Account(f'{prefix}-{r}')
            self.accounts.append(account)
            first = ledger.Player(f'{prefix}-{r}-0', account, self.after(owner))
            fresh.append(first.start())
            for i in range(1, players):
                start = gateways[i % len(gateways)]
                fresh.append(ledger.Player(f'{prefix}-{r}-{i}', account, self.after(start)))

        async def made():
            return all(p.heard.get('joined') for p in fresh[::players])
        await until(made, f'the rooms {prefix}-* are made')
        for p in fresh:
            if not p.task:
                p.start()

        async def playing():
            return all(p.heard.get('sent', 0) >= 2 for p in fresh)
        await until(playing, f'all players of {prefix}-* are playing')
        self.players += fresh
        listed = await self.watch.values('rooms')
        wrong = [a.room for a in self.accounts[-rooms:] if listed.get(a.room, {}).get('owner') != owner.name]
        assert not wrong, f'not owned by {owner.name}: {wrong[:3]}'
        return self.accounts[-rooms:]

    def after(self, node):
        """The nodes, from this one on."""
        at = self.w.nodes.index(node)
        return self.w.nodes[at:] + self.w.nodes[:at]

    async def served_again(self, accounts, since, timeout=30):
        """Waits until each room has acknowledged something at a later epoch; how long that took each, in seconds."""
        async def all_back():
            return all(a.longest_pause(since) for a in accounts)
        try:
            await until(all_back, 'every room is served again', timeout)
        except AssertionError:
            left = [a.room for a in accounts if not a.longest_pause(since)]
            raise AssertionError(f'{len(left)} of {len(accounts)} rooms are not served again: {left[:3]}') from None
        return [a.longest_pause(since)[0] for a in accounts]

    def migrated(self, room):
        return self.watch.events(f'room.{room}.migrated')

    async def settle(self, node):
        """Everybody stops; what does not hold."""
        await asyncio.gather(*(p.stop() for p in self.players))
        found = [b for p in self.players for b in p.breaches]
        found += await ledger.audit(self.accounts, node)

        async def clean():
            self.check = await asyncio.get_running_loop().run_in_executor(None, self.run_check)
            return self.check.returncode == 0
        try:
            await until(clean, 'roomctl check is clean', 20)
        except AssertionError:
            found.append('roomctl check: ' + self.check.stdout.decode() + self.check.stderr.decode())
        return found

    def run_check(self):
        return subprocess.run([self.roomctl, 'check', '--server', ','.join(self.w.urls)], capture_output=True, timeout=30)

    def total(self):
        acked = sum(len(a.values) for a in self.accounts)
        return f'{acked} adds acknowledged, {sum(a.doubts for a in self.accounts)} in doubt'


def told(times):
    ms = [t * 1000 for t in times]
    return f'{len(ms)} rooms, median {ledger.percentile(ms, 50):.0f} ms, p99 {ledger.percentile(ms, 99):.0f} ms'


class TooSlow(AssertionError):
    """Everything held, but not in the time it should take."""


def within(holds, what):
    """A figure that a busy machine can spoil: whoever is too slow gets four more tries, whoever is wrong gets none."""
    if not holds:
        raise TooSlow(what)


def play(scenes, nodes=3, options=NODE_OPTIONS):
    """Each scene in a cluster of its own: the faults of one are not the other's. argv: ROOMD ROOMCTL [scene...]"""
    roomd, roomctl, *wanted = sys.argv[1:]
    for scene in scenes:
        if wanted and scene.__name__ not in wanted:
            continue
        for tries_left in (4, 3, 2, 1, 0):
            begun = time.monotonic()
            try:
                once(scene, roomd, roomctl, nodes, options)
                break
            except TooSlow as e:
                if not tries_left:
                    raise
                print(f'   too slow, tried again: {e}', flush=True)
        print(f'ok {scene.__name__} ({time.monotonic() - begun:.1f} s)', flush=True)


def once(scene, roomd, roomctl, nodes, options):
    with World(roomd, nodes=nodes, options=options) as w:
        async def run():
            async with Field(w, roomctl) as f:
                await scene(w, f)
        asyncio.run(run())
