"""Players who remember every input that was acknowledged to them, and compare it with the rooms at the end.

Decides what counts as lost and as done twice: each input adds 1 to a `counter` room, and its acknowledgement says which
value it made. Every acknowledged value is a different one, and the room's value at the end is the number of acknowledged
inputs, plus at most those whose answer was lost with a connection (in doubt). Messages of a session come in the order of
`seq`, without gap, or `resync` says that some were missed; nothing is acknowledged at an epoch below one a player has seen.
Knows nothing of how rooms move. Invariant: an input in doubt is never sent again by hand: that is the cluster's business.
"""
import asyncio
import bisect
import math
import time

from transport import Tcp

STEP_S = 20  # the longest that anything may take before a player gives up


class Account:
    """What was acknowledged of one room, by all of its players."""

    def __init__(self, room):
        self.room, self.values, self.doubts, self.twice, self.times = room, set(), 0, [], []

    def acknowledged(self, value, epoch):
        if value in self.values:
            self.twice.append(value)
        self.values.add(value)
        self.times.append((time.monotonic(), epoch))

    def breaches(self, value):
        """What does not hold if the room's value is `value` now."""
        found = []
        count = len(self.values)
        if self.twice:
            found.append(f'{self.room}: the values {self.twice[:5]} were acknowledged twice')
        if not count <= value <= count + self.doubts:
            found.append(f'{self.room}: {count} adds acknowledged, {self.doubts} in doubt, but its value is {value}')
        if self.values and max(self.values) > value:
            found.append(f'{self.room}: value {max(self.values)} was acknowledged, now it is {value}')
        return found

    def longest_pause(self, since):
        """(seconds from `since` to the first acknowledgement of a later epoch, that epoch), or None."""
        before = [epoch for at, epoch in self.times if at <= since]
        highest = max(before) if before else 0
        for at, epoch in self.times:
            if at > since and epoch > highest:
                return at - since, epoch
        return None


    def longest_gap(self, begin, end):
        """Seconds between two acknowledgements, of those that were waited for at any time from `begin` to `end`."""
        first = max(0, bisect.bisect_left(self.times, (begin, 0)) - 1)
        times = [t for t, _ in self.times[first:bisect.bisect_right(self.times, (end, math.inf)) + 1]]
        return max((b - a for a, b in zip(times, times[1:])), default=0)


class Player:
    """Adds to one room as fast as it is acknowledged, over one node at a time; goes on at another when that one is gone."""

    def __init__(self, name, account, nodes, window=1):
        self.name, self.account, self.nodes, self.window = name, account, list(nodes), window
        self.at, self.n, self.open, self.seq, self.epoch = 0, 0, set(), 0, 0
        self.breaches, self.heard, self.connections, self.seats_lost, self.sent_away = [], {}, 0, 0, 0
        self.stopping = False
        self.task = None

    def start(self):
        self.task = asyncio.get_running_loop().create_task(self.play())
        return self

    async def stop(self):
        """No new inputs; waits until every one that is open was answered."""
        self.stopping = True
        await asyncio.wait_for(self.task, 3 * STEP_S)

    async def end(self):
        """At once; what is open stays in doubt."""
        while self.task and not self.task.done():
            self.task.cancel()  # again and again: before Python 3.12 wait_for drops a cancellation that meets a result
            await asyncio.wait([self.task], timeout=0.1)

    async def play(self):
        while not self.stopping or self.open:
            tcp = Tcp()
            try:
                await tcp.connect(self.nodes[self.at % len(self.nodes)].port)
                self.connections += 1
                await self.session(tcp)
            except OSError:
                await asyncio.sleep(0.02)  # nobody listens there: the next one
            finally:
                # Not a word about these will come any more: they were applied, or not.
                self.account.doubts += len(self.open)
                self.open.clear()
                if hasattr(tcp, 'writer'):
                    await tcp.close()
            self.at += 1

    async def session(self, tcp):
        self.n = self.seq = 0
        await tcp.send({'op': 'hello', 'v': 1, 'player': self.name, 'can': ['relay']})
        await tcp.send({'op': 'join', 'id': 1, 'mode': 'join_or_create', 'type': 'counter', 'room_id': self.account.room})
        room = None
        while True:
            if self.stopping and (room is None or not self.open):
                return
            frame = await asyncio.wait_for(tcp.recv(), STEP_S)
            if frame is None:
                return
            op = frame['op']
            self.heard[op] = self.heard.get(op, 0) + 1
            if op == 'joined':
                room = frame['room']
            elif op == 'sent':
                self.answered(frame)
            elif op == 'message':
                self.in_order(frame)
            elif op == 'resync':
                self.seq = frame['seq']
            elif op == 'reconnect':  # in good order: to the node it names, if that is one we know
                self.sent_away += 1
                named = [i for i, n in enumerate(self.nodes) if n.port == frame['port']]
                self.at = named[0] - 1 if named else self.at
                return
            elif op == 'left' or op == 'kicked':
                self.seats_lost += 1
                return
            elif op == 'error' and frame.get('id') == 1:
                await asyncio.sleep(0.05)
                await tcp.send({'op': 'join', 'id': 1, 'mode': 'join_or_create', 'type': 'counter',
                                'room_id': self.account.room})
            elif op == 'error' and 'n' in frame:
                self.open.discard(frame['n'])  # refused: it was not applied
            while room is not None and not self.stopping and len(self.open) < self.window:
                self.n += 1
                self.open.add(self.n)
                await tcp.send({'op': 'send', 'room': room, 'n': self.n, 'data': {'add': 1}})

    def answered(self, frame):
        if frame['n'] not in self.open:
            self.breaches.append(f"{self.name}: input {frame['n']} was answered twice")
            return
        self.open.discard(frame['n'])
        result = frame.get('result')
        if not isinstance(result, dict) or 'value' not in result:
            self.breaches.append(f"{self.name}: input {frame['n']} was acknowledged without its result: {frame}")
            return
        if frame['epoch'] < self.epoch:
            self.breaches.append(f"{self.name}: acknowledged at epoch {frame['epoch']} after {self.epoch}")
        self.epoch = frame['epoch']
        self.account.acknowledged(result['value'], frame['epoch'])

    def in_order(self, frame):
        if frame['seq'] != self.seq + 1:
            self.breaches.append(f"{self.name}: message {frame['seq']} came after {self.seq}")
        self.seq = frame['seq']


async def value_of(node, room, name='auditor'):
    """The room's value, as somebody hears it who joins it now."""
    tcp = Tcp()
    await tcp.connect(node.port)
    try:
        await tcp.send({'op': 'hello', 'v': 1, 'player': name, 'can': ['relay']})
        end = time.monotonic() + STEP_S
        while True:
            await tcp.send({'op': 'join', 'id': 1, 'mode': 'join', 'type': 'counter', 'room_id': room})
            frame = {'op': ''}
            while frame and frame['op'] not in ('joined', 'error'):
                frame = await asyncio.wait_for(tcp.recv(), STEP_S)
            if frame and frame['op'] == 'joined':
                return frame['state']['value']
            if frame is None or time.monotonic() > end:
                raise AssertionError(f'nobody can join {room}: {frame}')
            await asyncio.sleep(0.05)
    finally:
        await tcp.close()


async def audit(accounts, node):
    """What does not hold, over all rooms: an empty list is what a test wants."""
    found = []
    for i, account in enumerate(accounts):
        found += account.breaches(await value_of(node, account.room, f'auditor-{i}'))
    return found


def percentile(values, p):
    """By nearest rank: of 100 values the 99th is the last but one."""
    values = sorted(values)
    return values[max(0, math.ceil(len(values) * p / 100) - 1)] if values else None
