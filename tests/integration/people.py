"""Players one by one over three real nodes: what an operator is shown of them, how they are kicked wherever they are, and the login
policy `reject`, under which the session before stays. Usage: people.py ROOMD ROOMCTL"""
import asyncio
import contextlib
import json
import signal
import subprocess
import sys

from cluster import DEADLINE, Player, World, let_in, play_scenes, until
from transport import TRANSPORTS
from watcher import Watcher

ROOMCTL = sys.argv[2]


async def roomctl(w, *words):
    """(exit code, standard output, standard error); in a thread: the players go on hearing meanwhile."""
    def run():
        return subprocess.run([ROOMCTL, '--nats', ','.join(w.urls), *words], capture_output=True, text=True, timeout=3 * DEADLINE)
    done = await asyncio.get_running_loop().run_in_executor(None, run)
    return done.returncode, done.stdout, done.stderr


async def shown(w, *words):
    code, out, err = await roomctl(w, *words, '--json')
    assert code == 0, (words, code, out, err)
    return json.loads(out)


async def alive(*players):
    for p in players:
        await p.say(op='ping', t=7)
        assert (await p.hear('pong'))['t'] == 7


async def kicked(player):
    frame = await player.hear('kicked')
    assert await asyncio.wait_for(player.over.recv(), DEADLINE) is None
    return frame['reason'], frame.get('message')


async def resumed(node, player):
    """The first frame in answer to whoever would take the player's session up again."""
    other = Player(player.name, node)
    await other.over.connect(node.port)
    await other.say(op='hello', v=1, player=player.name, can=['relay', 'resume'], resume=player.welcome['resume'], last_seq=0)
    frame = await other.hear('welcome', 'kicked', 'error')
    if frame['op'] == 'welcome':
        await other.say(op='bye')
    await other.over.close()
    return frame


async def gone(w, watch, name):
    """Also from the registry, which hears of it a moment later than the player."""
    async def so():
        return await watch.kv('players', name) is None
    await until(so, f'{name} is gone')
    assert (await roomctl(w, 'player', name))[0] == 3


async def players_are_shown(w):
    async with contextlib.AsyncExitStack() as stack:
        players = [await stack.enter_async_context(Player(f'shown-{n.name}', n, can=('relay', 'resume'))) for n in w.nodes]
        for p in players:
            await p.joined(mode='join_or_create', type='counter', room_id='shown')
        for p in players:
            one = await shown(w, 'player', p.name)
            live = one['live']
            assert (one['id'], one['gateway'], one['session']) == (p.name, p.node.name, p.welcome['session']), one
            assert live['status'] == 'online' and live['rooms'] == ['shown'] and live['session'] == one['session'], one
            assert live['since'] == one['since'] and live['resumable'], one
        rows = {r['id']: r for r in await shown(w, 'players')}
        for p in players:
            row = rows[p.name]
            assert row['server'] == p.node.name and row['status'] == 'online' and row['rooms'] == ['shown'] and row['since'], row
        await players[0].over.close()

        async def away():
            return (await shown(w, 'player', players[0].name))['live']['status'] == 'away'
        await until(away, 'its connection is gone')
        one = await shown(w, 'player', players[0].name)
        assert 0 < one['live']['away_ms_left'] <= 30000 and one['live']['rooms'] == ['shown'], one
        before = one['since']
        there = Player(players[0].name, w.nodes[1])
        await there.over.connect(w.nodes[1].port)
        await there.say(op='hello', v=1, player=there.name, can=['relay', 'resume'], resume=players[0].welcome['resume'], last_seq=0)
        assert (await there.hear('welcome'))['resumed']
        one = await shown(w, 'player', there.name)
        assert one['gateway'] == w.nodes[1].name and one['since'] == one['live']['since'] == before, (before, one)
        await there.say(op='bye')
    assert (await roomctl(w, 'player', 'nobody'))[0] == 3
    assert (await roomctl(w, 'kick', 'nobody'))[0] == 3
    async with Watcher(w.urls[0]) as watch, Player('named', w.nodes[0]) as named:
        refused = await watch.ctl(w.nodes[0].name, op='kick', player='named', session='another')
        assert refused['error'] == 'not_found', refused
        await alive(named)


async def kicked_wherever_they_are(w):
    """On each node and over each transport, and nobody else; whoever was kicked may come back."""
    async with contextlib.AsyncExitStack() as stack, Watcher(w.urls[0]) as watch:
        watch.subscribe('player.>')
        await watch.flush()
        other = await stack.enter_async_context(Player('other', w.nodes[0]))
        for node, over in zip(w.nodes, TRANSPORTS):
            name = f'kick-{node.name}'
            p = await stack.enter_async_context(Player(name, node, can=('relay', 'resume'), over=over))
            await p.joined(mode='join_or_create', type='relay', room_id='kicking')
            said = await shown(w, 'kick', name, '--reason', 'cheating')
            assert said == {'id': name, 'session': p.welcome['session'], 'gateway': node.name, 'ended': True}, said
            assert await kicked(p) == ('kicked', 'cheating')
            await gone(w, watch, name)
            assert (await resumed(node, p))['resumed'] is False

            async def told():
                return watch.events(f'player.{name}.offline') and watch.events(f'player.{name}.left')
            await until(told, 'the cluster is told')
            (_, event), = watch.events(f'player.{name}.kicked')
            assert event['type'] == 'player:kicked' and event['reason'] == 'cheating' and event['server'] == node.name, event
            assert watch.events(f'player.{name}.offline')[0][1]['reason'] == 'kicked'
            order = [s.rsplit('.', 1)[1] for _, s, _ in watch.heard if s.startswith(f'player.{name}.')]
            assert order.index('kicked') < order.index('offline'), order
        code, out, err = await roomctl(w, 'kick', 'other', '--reason', 'x' * 129)
        assert code == 2 and '128' in err, (code, out, err)
        await alive(other)
        code, out, err = await roomctl(w, 'kick', 'other')
        assert code == 0 and 'has ended' in out, (code, out, err)
        assert await kicked(other) == ('kicked', None)


async def absent_ones_too(w):
    async with Player('roommate', w.nodes[2]) as mate, Watcher(w.urls[0]) as watch:
        watch.subscribe('player.gone.left')
        await watch.flush()
        away = Player('gone', w.nodes[0], can=('relay', 'resume'))
        async with away:
            await mate.joined(mode='create', type='relay', room_id='half')
            await away.joined(mode='join', type='relay', room_id='half')
        assert (await roomctl(w, 'kick', 'gone'))[0] == 0

        async def left():
            return [e['reason'] for _, e in watch.events('player.gone.left')] == ['kicked']
        await until(left, 'its seat has ended')
        await gone(w, watch, 'gone')
        assert (await resumed(w.nodes[1], away))['resumed'] is False


async def the_first_stays(w):
    """On the same node and on others; whoever is refused is told so, and disturbs nobody."""
    async with Player('first', w.nodes[0]) as first:
        for over, node in zip(TRANSPORTS, w.nodes):
            assert await let_in(node, 'first', over=over) == 'already_connected'
        await alive(first)
    for node in w.nodes:  # without `resume` the session ends with its connection
        async def free():
            return await let_in(node, 'first') == 'welcome'
        await until(free, 'the player may come in again', 5)


async def all_at_once(w):
    """Exactly one of them."""
    for i in range(5):
        async def enter(node):
            p = Player(f'race-{i}', node)
            await p.over.connect(node.port)
            await p.say(op='hello', v=1, player=p.name, can=['relay'])
            return p, await p.hear('welcome', 'error')
        answers = await asyncio.gather(*(enter(w.nodes[k % 3]) for k in range(9)))
        ops = sorted(frame['op'] for _, frame in answers)
        assert ops == ['error'] * 8 + ['welcome'], answers
        assert {frame['code'] for _, frame in answers if frame['op'] == 'error'} == {'already_connected'}, answers
        await alive(*(p for p, frame in answers if frame['op'] == 'welcome'))
        for p, _ in answers:
            await p.over.close()


async def an_absent_one_gives_way(w):
    """Its session waits for it on another node, and ends for whoever logs in without `resume`."""
    for there in w.nodes:
        away = Player(f'away-{there.name}', w.nodes[0], can=('relay', 'resume'))
        async with away:
            await away.joined(mode='join_or_create', type='relay', room_id='waiting')
        async with Player(away.name, there) as second:
            assert second.welcome['resumed'] is False and second.welcome['session'] != away.welcome['session']
            frame = await resumed(w.nodes[1], away)
            assert frame.get('code', frame.get('reason')) in ('already_connected', 'replaced'), frame
            await alive(second)


async def a_frozen_gateway(w):
    """Kicked while it hangs: the next login is not held up, and the session ends when the node goes on. Not kicked: the login waits
    until it is known that nobody answers."""
    node = w.nodes[2]
    async with Player('stuck', node, can=('relay', 'resume')) as stuck, Player('quiet', node) as quiet:
        node.kill(signal.SIGSTOP)
        try:
            code, out, err = await roomctl(w, 'kick', 'stuck')
            assert code in (0, 4) and node.name in err and ('does not answer' in err or 'is down' in err), (code, out, err)
            frame = await resumed(w.nodes[0], stuck)
            assert (frame['op'], frame['reason']) == ('kicked', 'kicked'), frame
            async with Player('stuck', w.nodes[0]) as again, Player('quiet', w.nodes[1]) as second:
                node.kill(signal.SIGCONT)
                assert (await kicked(stuck))[0] in ('kicked', 'replaced')
                assert (await kicked(quiet))[0] == 'replaced'
                await alive(again, second)
        finally:
            node.kill(signal.SIGCONT)


async def a_dead_gateway(w):
    node = w.nodes.pop()
    async with Player('orphan', node, can=('relay', 'resume')) as orphan, Player('lost', node) as lost:
        node.kill()
        await node.ended()
        node.close()

        async def down():
            rows = {r['id']: r for r in await shown(w, 'servers')}
            return node.name not in rows or rows[node.name]['status'] == 'down'
        await until(down, 'it is listed as down')
        code, out, err = await roomctl(w, 'kick', 'orphan')
        assert code == 0 and 'is down' in err, (code, out, err)
        frame = await resumed(w.nodes[0], orphan)
        assert (frame['op'], frame['reason']) == ('kicked', 'kicked'), frame
        assert (await roomctl(w, 'player', 'orphan'))[0] == 3
        for name in ('orphan', lost.name):
            async with Player(name, w.nodes[1]) as back:
                await alive(back)


SCENES = (players_are_shown, kicked_wherever_they_are, absent_ones_too, the_first_stays, all_at_once, an_absent_one_gives_way,
          a_frozen_gateway, a_dead_gateway)


def main():
    with World(sys.argv[1], options=('--login-policy', 'reject')) as w:
        asyncio.run(play_scenes(w, SCENES))


if __name__ == '__main__':
    main()
