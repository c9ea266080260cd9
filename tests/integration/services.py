"""Requests of players to backend services, on two real nodes and with real backends as processes of their own.

Usage: services.py ROOMD AUDIT.so ODD.so OLD.so NO_SYMBOL.so"""
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

from backends import Backends, backends
from cluster import Node, OneNats, Player, World, play_scenes, until
from transport import TRANSPORTS, Tcp, WebSocketMsgpack

ROOMD, AUDIT, ODD, OLD, NO_SYMBOL = sys.argv[1:6]
ROUTES = ('profile=profile,timeout=1s', '1001=profile,timeout=500ms', 'wide=profile,to=all,timeout=600ms', 'p2=profile,to=p2',
          'any.named=profile,to=named', 'plain=plain,timeout=500ms', 'gone=nobody', 'gone.all=nobody,to=all',
          'long=profile,timeout=20s',
          'slow.p1=profile,to=p1,timeout=300ms', 'tight=profile,rate=2/s', 'open=profile,login=no')
OPTIONS = tuple(f'--route={r}' for r in ROUTES) + ('--rate-requests', '0')


class Asker(Player):
    """A player with request numbers of its own."""

    last = 0

    async def ask(self, route, data=None, id=None):
        if id is None:
            self.last += 1
        await self.say(op='request', id=id or self.last, route=route, data=data)
        return id or self.last

    async def answer(self, number, timeout=20):
        """The answer of that request; others wait in the inbox."""
        for i, f in enumerate(self.inbox):
            if f['op'] in ('reply', 'error') and f.get('id') == number:
                return self.inbox.pop(i)
        while True:
            f = await asyncio.wait_for(self.over.recv(), timeout)
            assert f, 'disconnected'
            if f['op'] in ('reply', 'error') and f.get('id') == number:
                return f
            self.inbox.append(f)

    async def asked(self, route, data=None, timeout=20):
        return await self.answer(await self.ask(route, data), timeout)

    async def data(self, route, data=None):
        answer = await self.asked(route, data)
        assert answer['op'] == 'reply', answer
        return answer['data']

    async def code(self, route, data=None):
        answer = await self.asked(route, data)
        assert answer['op'] == 'error', answer
        return answer['code']


async def what_the_service_is_told(w):
    """Each transport, each node; the request as documented, bytes as $bin; nobody is told of another's."""
    value = {'x': 1.5, 'n': -3, 'tags': ['a', 'ü'], 'none': None, 'deep': [[[{}]]]}
    async with backends(w, 'profile', 'p1'):
        for node in w.nodes:
            for over in TRANSPORTS:
                async with Asker('ann', node, over=over) as ann:
                    got = (await ann.data('profile', value))['request']
                    trace = got.pop('trace')
                    assert len(trace) == 26 and got == {
                        'player': 'ann', 'session': ann.welcome['session'], 'server': node.name, 'route': 'profile', 'id': 1,
                        'data': value}, got
        async with Asker('ann', w.nodes[0], over=Tcp) as ann:
            got = (await ann.data('profile', b'\0\1\2'))['request']
            assert got['data'] == b'\0\1\2', got  # told as $bin, and told back
            answer = await ann.asked('1001', {'do': 'raw', 'text': '[1,2.5,"x",{"$bin":"AAEC"}]'})
            assert answer['data'] == [1, 2.5, 'x', b'\0\1\2'], answer


async def ten_thousand_in_order(w):
    """One player, one service of one instance that has just come: in order, each once; windows of 60."""
    count, window = 10000, 60
    async with backends(w, 'profile', 'p1'), Asker('ann', w.nodes[0], over=Tcp) as ann:
        begun, answers = time.monotonic(), {}
        for first in range(1, count + 1, window):
            numbers = range(first, min(first + window, count + 1))
            for number in numbers:
                await ann.ask('profile', {'do': 'echo'}, id=number)
            for _ in numbers:
                f = await asyncio.wait_for(ann.over.recv(), 20)
                assert f['op'] == 'reply' and f['id'] not in answers, f
                answers[f['id']] = f['data']['at']
        took = time.monotonic() - begun
        ann.last = count
        ran = await ann.data('profile', {'do': 'ran'})
        assert [number for _, number in ran] == list(range(1, count + 1)), 'not in order, or not once'
        assert answers == {i: i for i in range(1, count + 1)}
        print(f'   {count} requests in {took:.1f} s, {count / took:.0f}/s', flush=True)


async def once_per_number(w):
    """A repeated number has the same answer and ran once, open or answered; a forgotten or lower one is refused."""
    async with backends(w, 'profile', 'p1'), Asker('ann', w.nodes[0]) as ann, Asker('bob', w.nodes[1]) as bob:
        first = await ann.asked('profile', {'do': 'echo'})
        for _ in range(3):
            assert await ann.answer(await ann.ask('profile', {'do': 'other'}, id=1)) == first
        refused = await ann.asked('profile', {'do': 'fail', 'error': {'code': 'poor', 'message': '12 gold'}})
        assert await ann.answer(await ann.ask('profile', {}, id=2)) == refused and refused['service_code'] == 'poor'
        slow = await ann.ask('profile', {'do': 'sleep', 'ms': 300})
        for _ in range(5):
            await ann.ask('profile', {'do': 'sleep', 'ms': 300}, id=slow)
        assert (await ann.answer(slow))['op'] == 'reply'
        assert await ann.code('1001', {'do': 'sleep', 'ms': 1500}) == 'timeout'
        assert (await ann.answer(await ann.ask('1001', {}, id=4)))['code'] == 'timeout'
        ran = await bob.data('profile', {'do': 'ran'})
        assert [number for session, number in ran if session == ann.welcome['session']] == [1, 2, 3, 4], ran
        await ann.data('profile', None)  # no second answer of the ones before
        assert not ann.inbox, ann.inbox
        for _ in range(32):
            await ann.data('profile', {'do': 'echo'})
        assert (await ann.answer(await ann.ask('profile', {}, id=37)))['op'] == 'reply', 'one of the last 32'
        assert (await ann.answer(await ann.ask('profile', {}, id=1)))['code'] == 'already', 'forgotten'
        await ann.data('profile', {'do': 'big', 'bytes': 50000})
        await ann.data('profile', {'do': 'big', 'bytes': 60000})
        assert (await ann.answer(await ann.ask('profile', {}, id=38)))['code'] == 'already', '64 KiB are kept'
        assert len((await ann.answer(await ann.ask('profile', {}, id=39)))['data']) == 60000
        ann.last = 100
        await ann.data('profile', {'do': 'echo'})
        assert (await ann.answer(await ann.ask('profile', {}, id=90)))['code'] == 'already', 'lower than one before'
        ran = await bob.data('profile', {'do': 'ran'})
        assert len([1 for session, _ in ran if session == ann.welcome['session']]) == 4 + 1 + 32 + 2 + 1, ran


async def what_is_refused(w):
    """Each refusal by its own code; what was refused before it was sent has not used its number."""
    async with backends(w, 'profile', 'p1') as b, Asker('ann', w.nodes[0]) as ann:
        for route in ('nowhere', 'profil', 'profile.', 'svc', '1002', '', 'x' * 128):
            assert await ann.code(route) == 'unknown_route', route
        await ann.say(op='request', id=0, route='profile', data=None)
        assert (await ann.hear('error'))['code'] == 'invalid'
        begun = time.monotonic()
        for route in ('gone', 'gone.all'):
            assert await ann.code(route) == 'no_service', route
        assert time.monotonic() - begun < 1, 'at once'
        answer = await ann.asked('profile', {'do': 'fail', 'error': {'code': 'too_poor', 'message': 'that costs 12 gold'}})
        said = answer['code'], answer['service_code'], answer['message']
        assert said == ('service_error', 'too_poor', 'that costs 12 gold')
        for error in ('text', {}, {'code': 7}, {'code': 'x' * 65}, {'message': 'x'}):
            wanted = 'bad_reply' if isinstance(error, dict) else None
            answer = await ann.asked('profile', {'do': 'fail', 'error': error})
            assert answer.get('code') == wanted, (error, answer)
        for text in ('', 'not json', '{"a":1', '{"a":1}x', '[' * 25 + ']' * 25, '[' * 40 + ']' * 40, '"\\ud800"'):
            assert await ann.code('profile', {'do': 'raw', 'text': text}) == 'bad_reply', text
        assert await ann.code('profile', {'do': 'big', 'bytes': 600000}) == 'too_big'
        assert len(await ann.data('profile', {'do': 'big', 'bytes': 500000})) == 500000
        assert await ann.code('any.named', {'x': 1}) == 'invalid'
        assert await ann.code('any.named', {'instance': 'no such'}) == 'invalid'
        assert await ann.code('any.named', {'instance': 'p9'}) == 'no_service'
        assert await ann.code('p2') == 'no_service'
        assert (await ann.data('any.named', {'instance': 'p1'}))['by'] == 'p1'
        b.signal('profile.p1', signal.SIGKILL)
        async def gone():
            return await ann.code('profile') == 'no_service'
        await until(gone, 'no_service once the only instance is dead')


def known(player, route, wanted):
    """A condition: each of these instances has answered a request of the route."""
    seen = set()

    async def all_of_them():
        seen.add((await player.data(route))['by'])
        return seen >= wanted
    return all_of_them


async def frozen_missing_slow(w):
    """Three failures, three answers, each within its time-out, while another player is served as if nothing were."""
    async with backends(w, 'profile', 'p1', 'p2') as b, backends(w, 'plain', '-') as plain, \
            Asker('ann', w.nodes[0]) as ann, Asker('bob', w.nodes[0]) as bob, Asker('cat', w.nodes[1]) as cat:
        assert (await ann.data('p2'))['by'] == 'p2' and (await ann.data('plain'))['by'] == '-'
        await until(known(ann, 'profile', {'p1', 'p2'}), 'both instances are known')
        b.signal('profile.p2', signal.SIGSTOP)
        worst, served, over = 0, 0, asyncio.Event()

        async def others():
            nonlocal worst, served
            while not over.is_set():
                for player in (bob, cat):
                    begun = time.monotonic()
                    answer = await player.asked('any.named', {'instance': 'p1'})
                    assert answer['op'] == 'reply', answer
                    worst, served = max(worst, time.monotonic() - begun), served + 1
        serving = asyncio.create_task(others())
        begun = time.monotonic()
        numbers = {what: await ann.ask(route, data) for what, route, data in (
            ('frozen', 'p2', None), ('missing', 'gone', None), ('slow', 'slow.p1', {'do': 'sleep', 'ms': 5000}))}
        got = {}
        for what in ('missing', 'slow', 'frozen'):
            answer = await ann.answer(numbers[what])
            got[what] = answer['code'], round(time.monotonic() - begun, 2)
        over.set()
        await serving
        print(f'   {got}; meanwhile {served} requests of others, the longest took {worst * 1000:.0f} ms', flush=True)
        assert {what: code for what, (code, _) in got.items()} == {'frozen': 'unresponsive', 'missing': 'no_service',
                                                                   'slow': 'timeout'}, got
        assert got['missing'][1] < got['slow'][1] < 2 and got['slow'][1] > 0.25 and 1.9 < got['frozen'][1] < 4, got
        assert served > 20 and worst < 1, (served, worst)
        plain.signal('plain.-', signal.SIGSTOP)
        assert await ann.code('plain') == 'timeout', 'of a plain queue group nothing more is known'
        plain.signal('plain.-', signal.SIGCONT)
        async def back():
            return (await ann.asked('p2'))['op'] == 'reply'
        b.signal('profile.p2', signal.SIGCONT)
        await until(back, 'the instance after SIGCONT')


async def one_of_two_freezes(w):
    """Under load of 20 players at once: how many requests are lost to the frozen instance, and that it is used again later."""
    async with backends(w, 'profile', 'p1', 'p2') as b, contextlib.AsyncExitStack() as stack:
        players = [await stack.enter_async_context(Asker(f'p{i}', w.nodes[i % 2])) for i in range(20)]
        by, lost, over = {}, [], asyncio.Event()

        async def load(player):
            while not over.is_set():
                answer = await player.asked('profile', {'do': 'echo'})
                if answer['op'] == 'reply':
                    by[answer['data']['by']] = by.get(answer['data']['by'], 0) + 1
                else:
                    lost.append(answer['code'])
        tasks = [asyncio.create_task(load(p)) for p in players]

        async def both():
            return min(by.get('p1', 0), by.get('p2', 0)) > 200
        await until(both, 'both instances serve')
        assert not lost, lost
        share = by['p2'] / sum(by.values())
        b.signal('profile.p2', signal.SIGSTOP)
        by.clear()

        async def goes_on():
            return by.get('p1', 0) > 4000 and time.monotonic() > end
        end = time.monotonic() + 6
        await until(goes_on, 'the other one serves', 60)
        frozen_lost, served = list(lost), by.get('p1', 0)
        b.signal('profile.p2', signal.SIGCONT)
        by.clear()
        await until(both, 'both instances serve again')
        over.set()
        await asyncio.gather(*tasks)
        print(f'   share of p2 before {share:.2f}; frozen for 6 s: {served} served, {len(frozen_lost)} lost '
              f'({sorted(set(frozen_lost))}), after it {len(lost) - len(frozen_lost)} lost', flush=True)
        assert 0.3 < share < 0.7, share
        assert 1 <= len(frozen_lost) <= 20 and len(lost) == len(frozen_lost), lost


async def one_of_two_dies(w):
    """Under load: what was with it times out, at most; a service that comes back serves the next request."""
    async with backends(w, 'profile', 'p1', 'p2') as b, contextlib.AsyncExitStack() as stack:
        players = [await stack.enter_async_context(Asker(f'p{i}', w.nodes[i % 2])) for i in range(20)]
        ann = players[0]
        await until(known(ann, 'profile', {'p1', 'p2'}), 'both instances are known')
        answers, over = [], asyncio.Event()

        async def load(player):
            while not over.is_set():
                answers.append((await player.asked('profile', {'do': 'echo'})).get('code', 'reply'))
        tasks = [asyncio.create_task(load(p)) for p in players]

        async def many():
            return len(answers) > before + 2000
        before = 0
        await until(many, 'load')
        b.signal('profile.p2', signal.SIGKILL)
        before = len(answers)
        await until(many, 'load')
        over.set()
        await asyncio.gather(*tasks)
        lost = [a for a in answers if a != 'reply']
        print(f'   {len(answers)} requests, {len(lost)} lost with the dead one {sorted(set(lost))}', flush=True)
        assert len(lost) <= 20 and set(lost) <= {'timeout', 'unresponsive'}, lost
        b.signal('profile.p1', signal.SIGKILL)
        b.processes['profile.p1'].wait()

        async def nobody():
            return (await ann.asked('profile')).get('code') == 'no_service'
        await until(nobody, 'nobody serves it')
        await b.start('profile', 'p3')
        assert (await ann.data('profile'))['by'] == 'p3', 'at once'
    async with backends(w, 'plain', '-') as b, Asker('ann', w.nodes[0]) as ann:
        assert (await ann.data('plain'))['by'] == '-'
        b.signal('plain.-', signal.SIGKILL)
        b.processes['plain.-'].wait()
        await b.start('plain', 'i1')
        assert (await ann.data('plain'))['by'] == 'i1', 'at once'


async def to_all(w):
    """Each instance gets it; the answer is an array; who is silent is in it as an error, and costs the time-out."""
    async with backends(w, 'profile', 'p1', 'p2', 'p3') as b, Asker('ann', w.nodes[0]) as ann:
        async def three():
            got = await ann.data('wide', {'do': 'echo'})
            return sorted(e['instance'] for e in got) == ['p1', 'p2', 'p3'] and got
        got = await until(three, 'three answers')
        assert sorted(e['data']['by'] for e in got) == ['p1', 'p2', 'p3'], got
        got = await ann.data('wide', {'do': 'fail', 'error': {'code': 'no', 'message': 'never'}})
        assert [e['error'] for e in got] == [{'code': 'no', 'message': 'never'}] * 3, got
        got = await ann.data('wide', {'do': 'big', 'bytes': 200000})
        assert sorted(len(e['data']) if 'data' in e else e['error']['code'] == 'too_big' for e in got) == [1, 200000, 200000], \
            'all of it together is one frame'
        b.signal('profile.p3', signal.SIGSTOP)
        begun = time.monotonic()
        got = {e['instance']: e for e in await ann.data('wide', {'do': 'echo'})}
        took = time.monotonic() - begun
        assert set(got) == {'p1', 'p2', 'p3'} and 'data' in got['p1'] and got['p3']['error']['code'] == 'unresponsive', got
        assert 0.5 < took < 2, took
        b.signal('profile.p3', signal.SIGKILL)
        b.processes['profile.p3'].wait()

        async def two():
            got = await ann.data('wide', {'do': 'echo'})
            return sorted(e['instance'] for e in got if 'data' in e) == ['p1', 'p2']
        await until(two, 'two answers')
        for name in ('p1', 'p2'):
            b.signal('profile.' + name, signal.SIGSTOP)
        assert await ann.code('wide') in ('unresponsive', 'timeout')


async def limits(w):
    """64 open of one session, and the rate of a route and of a client; who is refused may go on with the same number."""
    async with backends(w, 'profile', 'p1'), Asker('ann', w.nodes[0]) as ann, Asker('bob', w.nodes[0]) as bob:
        await ann.data('profile', None)
        numbers = [await ann.ask('long', {'do': 'sleep', 'ms': 1000}) for _ in range(64)]
        assert (await ann.answer(await ann.ask('profile', None, id=66)))['code'] == 'rate_limited'
        assert (await bob.data('profile', None))['by'] == 'p1', 'another session is not concerned'
        for number in numbers:
            assert (await ann.answer(number))['op'] == 'reply'
        assert (await ann.answer(await ann.ask('profile', None, id=66)))['op'] == 'reply', 'the number was not used'
        ann.last = 66
        got = [(await ann.answer(number))['op'] for number in [await ann.ask('tight') for _ in range(6)]]
        assert got == ['reply'] * 4 + ['error'] * 2, got
        assert (await bob.asked('tight'))['op'] == 'reply'

        async def refilled():
            return (await ann.asked('tight'))['op'] == 'reply'
        await until(refilled, 'one more after half a second')
        node = await w.add('node-r', '--rate-requests', '20')
        async with Asker('cat', node) as cat:
            got = [(await cat.answer(number)).get('code') for number in [await cat.ask('long') for _ in range(60)]]
            assert got[:40] == [None] * 40 and set(got[40:]) >= {'rate_limited'}, got
        await w.drop(node)


async def guests(w):
    """login=no: before hello, and nothing else is; the service is told that nobody is known."""
    async with backends(w, 'profile', 'p1'):
        guest = Asker('', w.nodes[0], over=WebSocketMsgpack)
        await guest.over.connect(guest.node.port)
        told = (await guest.data('open', 7))['request']
        assert set(told) == {'server', 'route', 'id', 'data', 'trace'} and told['data'] == 7, told
        await guest.say(op='hello', v=1, player='gil')
        assert (await guest.hear('welcome'))['player'] == 'gil'
        guest.last = 0
        assert (await guest.data('open', 8))['request']['player'] == 'gil'
        await guest.over.close()
        guest = Asker('', w.nodes[0])
        await guest.over.connect(guest.node.port)
        await guest.ask('profile')
        assert (await guest.hear('error'))['code'] == 'unauthorized' and (await guest.hear('closed'))
        await guest.over.close()


async def ends_of_sessions_and_nodes(w):
    """Open requests are dropped with their session; a node that stops says so, and a late reply harms nobody."""
    async with backends(w, 'profile', 'p1'):
        for _ in range(20):
            async with Asker('ann', w.nodes[0]) as ann:
                for _ in range(10):
                    await ann.ask('long', {'do': 'sleep', 'ms': 200})
        node = await w.add('node-x', '--drain-timeout', '0')
        async with Asker('bob', node) as bob, Asker('cat', w.nodes[0]) as cat:
            number = await bob.ask('long', {'do': 'sleep', 'ms': 15000})
            await cat.data('profile')
            node.kill(signal.SIGTERM)
            answer = await bob.answer(number)
            assert answer['code'] == 'cancelled', answer
            assert (await bob.hear('kicked'))['reason'] == 'server_stopping'
        assert await node.ended() == 0
        node.close()
        w.nodes.remove(node)
        async with Asker('ann', w.nodes[0]) as ann:
            await ann.data('profile')


async def without_nats(w):
    """The bus is gone: `unavailable` at once; what was open: `unknown_result`."""
    nats = OneNats(os.path.join(w.folder.name, 'other'))
    nats.start()
    url = nats.urls()[0]
    node = Node(w.roomd, 'alone', [url], w.folder.name, *OPTIONS)
    try:
        await asyncio.get_running_loop().run_in_executor(None, node.wait_ready)
        b = Backends(url)
        await b.start('profile', 'p1')
        async with Asker('ann', node) as ann:
            await ann.data('profile')
            number = await ann.ask('long', {'do': 'sleep', 'ms': 15000})
            await ann.data('profile')
            nats.stop()
            assert (await ann.answer(number))['code'] == 'unknown_result'
            begun = time.monotonic()
            assert await ann.code('profile') == 'unavailable' and time.monotonic() - begun < 0.5
        b.stop()
    finally:
        node.close()
        nats.stop()


async def hooks(w):
    """Before: refuses, and the number is not used; after: each that went out, once, with its end."""
    node = await w.add('node-h', '--service-hook', AUDIT, '--route', 'shop.buy=profile')
    async with backends(w, 'profile', 'p1'):
        async with Asker('ann', node) as ann:
            assert await ann.code('shop.buy', 'x' * 100) == 'too_big'
            assert (await ann.answer(await ann.ask('shop.buy', 'sword', id=1)))['op'] == 'reply'
            assert (await ann.answer(await ann.ask('shop.buy', 'sword', id=1)))['op'] == 'reply'
            assert await ann.code('profile', {'do': 'fail', 'error': {'code': 'poor'}}) == 'service_error'
            assert await ann.code('gone') == 'no_service'
            assert await ann.code('nowhere') == 'unknown_route'
            lines = [dict(pair.split('=') for pair in line.split()[1:]) for line in node.logged().splitlines()
                     if line.startswith('audit')]
            got = [(x['route'], x['service'], x['player'], x['id'], x['result']) for x in lines]
            assert got == [('shop.buy', 'profile', 'ann', '1', 'ok'), ('profile', 'profile', 'ann', '2', 'service_error'),
                           ('gone', 'nobody', 'ann', '3', 'no_service')], got
            assert int(lines[0]['bytes']) > 10 and len(lines[0]['trace']) == 26, lines
            await ann.ask('long', {'do': 'sleep', 'ms': 300})

        async def dropped():
            return [1 for line in node.logged().splitlines() if line.startswith('audit route=long')] == [1]
        await until(dropped, 'the end of a request whose player is gone')
    await w.drop(node)
    node = await w.add('node-o', '--service-hook', ODD)
    async with Asker('ann', node) as ann:
        assert [await ann.code('profile') for _ in range(2)] == ['internal'] * 2
    await w.drop(node)
    for path, words in ((OLD, 'was built for version 2 of room/service_hook.h, this is version 1'),
                        ('/nowhere.so', 'No such file'), (NO_SYMBOL, "symbol 'room_service_hook' not found")):
        done = subprocess.run([ROOMD, '--standalone', '--listen', '127.0.0.1:0', '--service-hook', path], capture_output=True,
                              text=True, timeout=20)
        assert done.returncode == 1 and f"'{path}'" in done.stderr and words in done.stderr, done
    done = subprocess.run([ROOMD, '--standalone', '--listen', '127.0.0.1:0', '--route', 'a=b,to'], capture_output=True,
                          text=True, timeout=20)
    assert done.returncode == 1 and "route 'a': 'to' is not KEY=VALUE" in done.stderr, done


async def with_a_prefix(w):
    node = await w.add('node-p', '--prefix', 'blue')
    async with backends(w, 'profile', 'b1', 'b2', prefix=('blue',)), Asker('ann', node) as ann:
        await until(known(ann, 'profile', {'b1', 'b2'}), 'both instances under the prefix')
    await w.drop(node)


def main():
    with World(ROOMD, nodes=2, nats=OneNats, options=OPTIONS) as w:
        asyncio.run(play_scenes(w, (what_the_service_is_told, once_per_number, what_is_refused, frozen_missing_slow,
                                    one_of_two_freezes, one_of_two_dies, to_all, limits, guests, ends_of_sessions_and_nodes,
                                    without_nats, with_a_prefix, hooks, ten_thousand_in_order)))


if __name__ == '__main__':
    main()
