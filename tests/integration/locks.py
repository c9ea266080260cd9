"""Locks of the cluster, asked for as a backend would: on server.<id>.ctl of any node. Who holds one, who takes it from the
dead, and eight contenders for one while the nats-server that leads its bucket is killed. Usage: locks.py ROOMD ROOMCTL"""
import asyncio
import json
import random
import subprocess
import sys
import time

from cluster import World, play_scenes, until
from watcher import Watcher

CONTENDERS, ACQUISITIONS, KILL_AT = 8, 1000, 400


class Ledger:
    """What the lock guards. It refuses a token that is not higher than all before, and sees two who are in it."""

    def __init__(self):
        self.highest, self.inside, self.entered = 0, None, 0

    def enter(self, who, token):
        assert self.inside is None, f'{who} enters with {token} while {self.inside} is in it'
        assert token > self.highest, f'{who} enters with {token} after {self.highest}'
        self.highest, self.inside, self.entered = token, (who, token), self.entered + 1

    def leave(self, who, token):
        assert self.inside == (who, token), (who, token, self.inside)
        self.inside = None


def roomctl(w, *words):
    done = subprocess.run([sys.argv[2], '--nats', w.urls[0], *words], capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done
    return done.stdout.decode()


async def all_are_reached(w):
    """A new subscription is known to the other nats-servers a moment later."""
    async with Watcher(w.urls[0]) as a:
        async def answer():
            try:
                return all([(await a.ctl(n.name, op='info'))['ok'] for n in w.nodes])
            except ValueError:
                return False
        await until(answer, 'all nodes answer')


async def by_turns(w):
    """Every node knows who has it, whichever node was asked for it."""
    async with Watcher(w.urls[0]) as a:
        got = await a.ctl('node-1', op='lock', name='one', holder='ann', ttl_ms=60000)
        assert got['ok'], got
        token = got['result']['token']
        assert got['result']['holder'] == 'ann' and 50000 < got['result']['left_ms'] <= 60000, got
        for node in ('node-1', 'node-2', 'node-3'):
            held = await a.ctl(node, op='lock', name='one', holder='bob', ttl_ms=1000)
            assert not held['ok'] and held['error'] == 'held', held
            assert held['result']['holder'] == 'ann' and held['result']['token'] == token, held
            assert "lock 'one' is held by 'ann'" in held['message'], held
        renewed = await a.ctl('node-3', op='renew', name='one', holder='ann', token=token, ttl_ms=30000)
        assert renewed['ok'] and renewed['result']['token'] == token and renewed['result']['ttl_ms'] == 30000, renewed
        row, = (r for r in json.loads(roomctl(w, 'locks', '--json')) if r['id'] == 'one')
        assert (row['holder'], row['token'], row['ttl_ms']) == ('ann', token, 30000) and row['age_ms'] < 20000, row
        shown = roomctl(w, 'locks')
        assert 'TOKEN' in shown and 'ann' in shown, shown
        for wrong in (dict(token=token + 1), dict(token=token, holder='bob')):
            for op in ('renew', 'unlock'):
                refused = await a.ctl('node-2', **dict(dict(op=op, name='one', holder='ann'), **wrong), wait_s=5)
                assert refused.get('error') == 'fenced', refused
        assert (await a.ctl('node-2', op='unlock', name='one', holder='ann', token=token))['ok']
        assert (await a.ctl('node-1', op='unlock', name='one', holder='ann', token=token))['error'] == 'not_found'
        again = await a.ctl('node-2', op='lock', name='one', holder='bob', ttl_ms=1000)
        assert again['ok'] and again['result']['token'] > token, again


async def nonsense_is_refused(w):
    good = dict(op='lock', name='two', holder='ann', ttl_ms=1000)
    async with Watcher(w.urls[0]) as a:
        for change in (dict(name='no id'), dict(holder='a.b'), dict(holder=None), dict(ttl_ms=99), dict(ttl_ms=None),
                       dict(ttl_ms=3600001), dict(wait_ms=60001), dict(wait_ms=-1), dict(room='lobby'), dict(op='renew'),
                       dict(op='unlock'), dict(op='unlock', token=0), dict(op='renew', token='x')):
            refused = await a.ctl('node-1', **{k: v for k, v in {**good, **change}.items() if v is not None})
            assert not refused['ok'] and refused['error'] in ('invalid', 'bad_frame'), (change, refused)
        assert await a.kv('locks', 'two') is None


async def too_many_are_refused(w):
    """A node has 1,024 requests under way at the most; who is refused hears so at once."""
    async with Watcher(w.urls[0]) as a:
        first = await a.ctl('node-1', op='lock', name='three', holder='ann', ttl_ms=60000)
        asks = [asyncio.create_task(a.ctl('node-1', op='lock', name='three', holder=f'w-{i}', ttl_ms=1000, wait_ms=3000,
                                          wait_s=20)) for i in range(1100)]
        answers = await asyncio.gather(*asks)
        codes = [x['error'] for x in answers]
        assert first['ok'] and set(codes) == {'held', 'full'} and 0 < codes.count('full') <= 1100 - 1000, codes.count('full')


async def the_dead_lose_it(w):
    """Nobody renews it: whoever waits has it when its ttl is over, and not before. A stopped node neither gives nor takes."""
    async with Watcher(w.urls[0]) as a:
        dead = await a.ctl('node-1', op='lock', name='four', holder='dead', ttl_ms=1000)
        begun = time.monotonic()
        heir = await a.ctl('node-2', op='lock', name='four', holder='heir', ttl_ms=1000, wait_ms=10000, wait_s=20)
        took = time.monotonic() - begun
        assert heir['ok'] and heir['result']['token'] > dead['result']['token'], heir
        assert 0.9 < took < 3, took
        late = await a.ctl('node-1', op='renew', name='four', holder='dead', token=dead['result']['token'])
        assert late['error'] == 'fenced', late


class Contender:
    def __init__(self, number, watch, ledger):
        self.name, self.watch, self.ledger = f'c-{number}', watch, ledger
        self.rng, self.codes, self.got = random.Random(number), {}, 0

    async def ask(self, **request):
        """By way of any node; a reply that is lost counts as unknown."""
        try:
            answer = await self.watch.ctl(f'node-{self.rng.randint(1, 3)}', name='race', holder=self.name, wait_s=15, **request)
        except asyncio.TimeoutError:
            answer = {'ok': False, 'error': 'lost'}
        except ValueError:  # nobody answers there at the moment
            answer = {'ok': False, 'error': 'no_responders'}
        if not answer['ok']:
            self.codes[answer['error']] = self.codes.get(answer['error'], 0) + 1
        return answer

    async def hold(self, token, left_ms):
        end = time.monotonic() + left_ms / 1000
        self.ledger.enter(self.name, token)
        await asyncio.sleep(self.rng.random() * 0.004)  # the work that the lock is for
        assert time.monotonic() < end, 'the test is too slow for its ttl'
        self.ledger.leave(self.name, token)

    async def run(self, enough):
        while self.ledger.entered < enough:
            got = await self.ask(op='lock', ttl_ms=2000, wait_ms=5000)
            if not got['ok'] or self.ledger.entered >= enough:
                continue
            self.got += 1
            token = got['result']['token']
            await self.hold(token, got['result']['left_ms'])
            if self.rng.random() < 0.005:
                continue  # dies without a word
            await self.ask(op='unlock', token=token)


async def eight_contend_and_the_leader_dies(w):
    """1,000 acquisitions by way of three nodes. In the middle the nats-server that leads the bucket is killed."""
    ledger = Ledger()
    async with Watcher(w.urls[0]) as a:
        info = json.loads(await a.request('$JS.API.STREAM.INFO.KV_locks'))
    leader = int(info['cluster']['leader'].split('-')[1]) - 1
    urls = [u for i, u in enumerate(w.urls) if i != leader]
    watches = [await Watcher(urls[i % 2]).__aenter__() for i in range(CONTENDERS)]
    contenders = [Contender(i, watch, ledger) for i, watch in enumerate(watches)]

    async def kill():
        while ledger.entered < KILL_AT:
            await asyncio.sleep(0.001)
        w.nats.servers[leader]['process'].kill()
        return time.monotonic(), ledger.entered
    begun = time.monotonic()
    (killed, at), *_ = await asyncio.wait_for(
        asyncio.gather(kill(), *(c.run(ACQUISITIONS) for c in contenders)), 200)
    codes = {}
    for c in contenders:
        for code, count in c.codes.items():
            codes[code] = codes.get(code, 0) + count
        assert c.got, f'{c.name} never had it'
    assert ledger.entered >= ACQUISITIONS and KILL_AT <= at < ACQUISITIONS, (ledger.entered, at)
    print(f'   {ledger.entered} acquisitions in {time.monotonic() - begun:.1f} s, {killed - begun:.1f} s of it before the '
          f'kill; shares {[c.got for c in contenders]}; not got: {codes}', flush=True)
    for watch in watches:
        await watch.__aexit__()


SCENES = (all_are_reached, by_turns, nonsense_is_refused, too_many_are_refused, the_dead_lose_it,
          eight_contend_and_the_leader_dies)


def main():
    with World(sys.argv[1]) as w:
        asyncio.run(play_scenes(w, SCENES))


if __name__ == '__main__':
    main()
