"""Players keep their session: gateways and owners are killed, frozen, drained, moved away under them. Usage: sessions.py ROOMD ROOMCTL [SCENE...]"""
import asyncio
import signal
import time

from field import play, until, within
from resumer import Resumer


class Roamer(Resumer):
    """Adds 1 to a counter room as fast as it is acknowledged; whatever happens to its connection, it comes back somewhere and
    asks again what was not answered."""

    def __init__(self, name, room, nodes, at):
        super().__init__(name)
        self.room_id, self.nodes, self.at = room, list(nodes), at
        self.values, self.n, self.number = [], 0, None
        self.sessions, self.gaps, self.stopping = set(), [], False
        self.away_since = None

    def start(self):
        self.task = asyncio.get_running_loop().create_task(self.play())
        return self

    async def play(self):
        while not self.stopping:
            try:
                await self.connect()
                while not self.stopping:
                    await self.add_one()
            except (OSError, ConnectionError, asyncio.TimeoutError, EOFError):
                self.away_since = self.away_since or time.monotonic()
                self.at += 1
                await asyncio.sleep(0.02)

    async def connect(self):
        frame = await asyncio.wait_for(self.come(self.nodes[self.at % len(self.nodes)]), 6)
        if frame['op'] != 'welcome':
            raise EOFError(frame)
        self.sessions.add(self.session)
        if self.number is None:
            joined = await self.join(mode='join_or_create', type='counter', room_id=self.room_id)
            assert joined['op'] == 'joined', joined
            self.number = joined['room']
        else:
            assert frame['resumed'] and self.number in frame['rooms'], frame
            if self.n > len(self.values):
                await self.say(op='send', room=self.number, n=self.n, data={'add': 1})
                await self.answer()

    async def add_one(self):
        self.n += 1
        await self.say(op='send', room=self.number, n=self.n, data={'add': 1})
        await self.answer()

    async def answer(self):
        while True:
            frame = await self.frame(10)
            assert frame['op'] not in ('kicked', 'left'), frame
            if frame['op'] in ('closed', 'reconnect'):
                raise EOFError(frame)
            assert frame['op'] != 'error', frame
            if frame['op'] == 'sent' and frame['n'] == self.n:
                break
        if self.away_since:
            self.gaps.append(time.monotonic() - self.away_since)
            self.away_since = None
        self.values.append(frame['result']['value'])

    async def stop(self):
        self.stopping = True
        await asyncio.wait_for(self.task, 30)


async def crowd(w, f, owner, rooms, players, gateway):
    """`players` in each of `rooms` rooms of `owner`, all connected to `gateway`; the oracles look at them as at ledger players."""
    at = w.nodes.index(gateway)
    first = [Roamer(f'r{r}-0', f'r{r}', w.nodes, w.nodes.index(owner)) for r in range(rooms)]
    for p in first:
        await p.connect()
        await p.add_one()
        await p.drop()
        p.at = at
    rest = [Roamer(f'r{r}-{i}', f'r{r}', w.nodes, at) for r in range(rooms) for i in range(1, players)]
    everybody = [p.start() for p in first + rest]

    async def all_play():
        for p in everybody:
            if p.task.done():
                p.task.result()
        return all(len(p.values) > 2 for p in everybody)
    await until(all_play, 'everybody plays')
    listed = await f.watch.values('rooms')
    assert all(listed[f'r{r}']['owner'] == owner.name for r in range(rooms)), listed
    return everybody


async def back(everybody, least=2):
    """Waits until everybody who lost his connection has been answered again; the slowest of them, in seconds."""
    async def all_back():
        for p in everybody:
            if p.task.done():
                p.task.result()
        return all(p.gaps and not p.away_since for p in everybody)
    await until(all_back, 'everybody is back', 60)
    return max(max(p.gaps) for p in everybody)


async def judge(w, f, everybody):
    """Every add of the players was answered once, each with another value, and the room has them all."""
    await asyncio.gather(*(p.stop() for p in everybody))
    by_room = {}
    for p in everybody:
        assert len(p.sessions) == 1, f'{p.name} had sessions {p.sessions}'
        assert len(p.values) == p.n, (p.name, p.n, len(p.values))
        by_room.setdefault(p.room_id, []).extend(p.values)
    for room, values in by_room.items():
        assert sorted(values) == list(range(1, len(values) + 1)), f'{room}: {len(values)} adds, not each once'

    async def clean():
        f.check = await asyncio.get_running_loop().run_in_executor(None, f.run_check)
        return f.check.returncode == 0
    await until(clean, 'roomctl check is clean', 30)
    return sum(p.n for p in everybody)


async def gateway_killed(w, f):
    """kill -9 of the gateway of players in rooms of another node."""
    everybody = await crowd(w, f, w.nodes[1], 5, 4, w.nodes[0])
    w.nodes[0].kill()
    slowest = await back(everybody)
    adds = await judge(w, f, everybody)
    print(f'   {len(everybody)} sessions are back after {slowest:.2f} s at most; {adds} adds, each once', flush=True)
    within(slowest < 3, f'back after {slowest:.2f} s')


async def owner_killed(w, f):
    """kill -9 of the node that owns the rooms and is the gateway of their players, too."""
    everybody = await crowd(w, f, w.nodes[0], 5, 4, w.nodes[0])
    w.nodes[0].kill()
    slowest = await back(everybody)
    adds = await judge(w, f, everybody)
    print(f'   {len(everybody)} sessions are back after {slowest:.2f} s at most; {adds} adds, each once', flush=True)
    within(slowest < 4, f'back after {slowest:.2f} s')


async def gateway_frozen(w, f):
    """SIGSTOP of the gateway until all play elsewhere, then SIGCONT: it takes nobody back."""
    everybody = await crowd(w, f, w.nodes[1], 5, 4, w.nodes[0])
    w.nodes[0].kill(signal.SIGSTOP)
    for p in everybody:
        await p.drop()
    slowest = await back(everybody)
    w.nodes[0].kill(signal.SIGCONT)

    async def forgotten():
        return (await f.watch.ctl(w.nodes[0].name, wait_s=5, op='info'))['result'].get('sessions', 0) == 0
    await until(forgotten, 'the node that was frozen has no session any more', 30)
    before = [len(p.values) for p in everybody]

    async def all_go_on():
        return all(len(p.values) > n for p, n in zip(everybody, before))
    await until(all_go_on, 'everybody goes on')
    adds = await judge(w, f, everybody)
    print(f'   {len(everybody)} sessions are back after {slowest:.2f} s at most; {adds} adds, each once', flush=True)


async def gateway_drained(w, f):
    """SIGTERM of a node with rooms and players of its own and of others: players are told where to go, and lose nothing."""
    everybody = await crowd(w, f, w.nodes[0], 5, 4, w.nodes[0])
    w.nodes[0].kill(signal.SIGTERM)
    assert await w.nodes[0].ended(40) == 0
    slowest = await back(everybody)
    missed = sum(p.missed for p in everybody)
    adds = await judge(w, f, everybody)
    print(f'   {len(everybody)} sessions are back after {slowest:.2f} s at most; {adds} adds, each once; missed {missed}', flush=True)


async def thousand(w, f):
    """A thousand sessions on one gateway, which is killed: all are back within three seconds."""
    owner, gateway = w.nodes[1], w.nodes[0]
    everybody = await crowd(w, f, owner, 50, 20, gateway)
    gateway.kill()
    slowest = await back(everybody)
    adds = await judge(w, f, everybody)
    print(f'   {len(everybody)} sessions are back after {slowest:.2f} s at most; {adds} adds, each once', flush=True)
    within(slowest < 6, f'back after {slowest:.2f} s')


if __name__ == '__main__':
    play([gateway_killed, owner_killed, gateway_frozen, gateway_drained, thousand])
