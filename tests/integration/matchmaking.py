"""Matchmaking on three nodes: who is matched, who is told what, and that nobody is lost or matched twice while matchmakers die,
hang and come back. Usage: matchmaking.py ROOMD ROOMCTL"""
import asyncio
import json
import subprocess
import sys

from cluster import DEADLINE, Node, Player, World, play_scenes, until
import watcher

OPTIONS = ['--type', 'duel=relay,max_players=8', '--queue', 'duel=duel,size=2', '--queue', 'trio=duel,size=3,max_wait=0',
           '--queue', 'teams=duel,teams=2x2,equal=mode,max_wait=0',
           '--queue', 'ranked=duel,size=2,range=rank:100:100:1000,max_wait=0',
           '--queue', 'brief=duel,size=2,max_wait=400ms', '--queue', 'polite=duel,size=2,confirm=5s,max_wait=0',
           '--queue', 'hasty=duel,size=2,confirm=500ms,max_wait=0']


class Watcher(watcher.Watcher):
    """On a busy machine an answer may take longer than two seconds."""

    async def request(self, subject, body=b'', timeout=DEADLINE):
        return await super().request(subject, body, max(timeout, DEADLINE))


class Waiting(Player):
    """A player who asks to be matched."""
    ticket = None

    async def match(self, queue, **more):
        async def asked():  # a node that has just started may not have listed the bucket yet, and says so
            self.request += 1
            await self.say(op='match', id=self.request, queue=queue, **more)
            answer = await self.hear('queued', 'error')
            return answer if answer.get('code') != 'unavailable' else None
        answer = await until(asked, f'{self.name} is told')
        if answer['op'] == 'queued':
            assert answer['id'] == self.request and answer['queue'] == queue, answer
            self.ticket = answer['ticket']
        return answer

    async def matched(self, timeout=DEADLINE):
        return await self.hear('matched', timeout=timeout)

    async def enter(self, matched):
        """Into the room of the match."""
        joined = await self.joined(mode='join', type=matched['type'], room_id=matched['room_id'])
        assert joined['room_id'] == matched['room_id'], joined
        return joined

    async def unmatch(self, queue):
        self.request += 1
        await self.say(op='unmatch', id=self.request, queue=queue)
        return await self.hear('unmatched', 'error')


def roomctl(w, *words):
    done = subprocess.run([sys.argv[2], '--nats', w.urls[0], *words], capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done
    return done.stdout.decode()


async def together(count, w, queue, prefix, **more):
    """Players spread over all nodes, each with a ticket."""
    players = [Waiting(f'{prefix}-{i}', w.nodes[i % len(w.nodes)]) for i in range(count)]
    for p in players:
        await p.__aenter__()
    for p in players:
        answer = await p.match(queue, **more)
        assert answer['op'] == 'queued', answer
    return players


async def close(players):
    for p in players:
        await p.__aexit__()


def one_match_each(told):
    """{match: [players]}: everybody of a match was told the same, and nobody is in two."""
    matches = {}
    for player, frame in told.items():
        matches.setdefault(frame['match'], []).append(player)
        assert player in frame['players'], (player, frame)
    for match, players in matches.items():
        assert sorted(players) == sorted(told[players[0]]['players']), (match, players, told[players[0]])
        assert len({told[p]['room_id'] for p in players}) == 1, match
    return matches


async def nothing_is_left(a):
    async def empty():
        return not await a.values('matchmaking')
    try:
        await until(empty, 'the bucket is empty')
    except AssertionError:
        raise AssertionError(await a.values('matchmaking')) from None


async def players_of_all_nodes(w):
    async with Watcher(w.urls[0]) as a:
        a.subscribe('player.*.matched')
        await a.flush()
        players = await together(9, w, 'trio', 'all')
        told = {p.name: await p.matched() for p in players}
        assert len(one_match_each(told)) == 3
        for p in players:
            frame = told[p.name]
            assert frame['ticket'] == p.ticket and frame['queue'] == 'trio' and frame['type'] == 'duel', frame
            await p.enter(frame)
        entry = await a.kv('rooms', told['all-0']['room_id'])
        assert entry and entry[1]['private'], entry

        async def said():
            return len({s for _, s, _ in a.heard}) == 9
        await until(said, 'player.<id>.matched')
        event, = (e for _, e in a.events('player.all-0.matched'))
        assert event['room'] == told['all-0']['room_id'] and event['match'] == told['all-0']['match'], event
        await nothing_is_left(a)
        await close(players)


async def who_asks_wrongly_is_told(w):
    async with Waiting('wrong', w.nodes[0]) as p:
        for code, queue, more, text in (
                ('not_found', 'nothing', {}, '--queue'), ('invalid', 'teams', {}, "'mode'"),
                ('invalid', 'teams', {'properties': {'mode': 5}}, "'mode'"),
                ('invalid', 'teams', {'properties': {'mode': 'a\nb'}}, "'mode'"),
                ('invalid', 'ranked', {'properties': {'rank': 'high'}}, "'rank'"),
                ('invalid', 'ranked', {'properties': [1]}, "'rank'"),
                ('too_big', 'duel', {'properties': {'x': 'y' * 1100}}, '1024'),
                ('invalid', 'trio', {'party': ['a.b']}, "'a.b'"), ('invalid', 'trio', {'party': ['x', 'x']}, 'twice'),
                ('too_big', 'duel', {'party': ['x', 'y']}, 'party of 3')):
            answer = await p.match(queue, **more)
            assert answer['op'] == 'error' and answer['code'] == code and text in answer['message'], (queue, more, answer)
        assert (await p.unmatch('duel'))['code'] == 'not_found'
        await p.say(op='accept', id=77, match='nothing', accept=True)
        assert (await p.hear('error'))['code'] == 'not_found'
        assert (await p.match('trio'))['op'] == 'queued'
        twice = await p.match('trio')
        assert twice['code'] == 'already', twice
        assert (await p.unmatch('duel'))['code'] == 'not_found', 'it waits in another one'
        gone = await p.unmatch('trio')
        assert gone['op'] == 'unmatched' and gone['reason'] == 'left' and gone['ticket'] == p.ticket, gone
        assert (await p.match('trio'))['op'] == 'queued'
        assert (await p.unmatch('trio'))['reason'] == 'left'
    async with Watcher(w.urls[0]) as a:
        await nothing_is_left(a)


async def whoever_waits_too_long_is_told(w):
    async with Waiting('long', w.nodes[1]) as p, Watcher(w.urls[0]) as a:
        assert (await p.match('brief'))['op'] == 'queued'
        over = await p.hear('unmatched')
        assert over['reason'] == 'timeout' and over['ticket'] == p.ticket and over['queue'] == 'brief', over
        await nothing_is_left(a)


async def whoever_is_gone_is_not_matched(w):
    """Its session has ended, or it was said goodbye to: the ticket is withdrawn."""
    async with Watcher(w.urls[0]) as a:
        first = Waiting('goes', w.nodes[0])
        await first.__aenter__()
        await first.match('duel')
        await first.__aexit__()
        await nothing_is_left(a)
        players = await together(2, w, 'duel', 'stay')
        for p in players:
            assert 'goes' not in (await p.matched())['players']
        await close(players)


async def parties_and_teams(w):
    """Two of a party in one team; only those of the same mode."""
    async with Watcher(w.urls[0]) as a:
        players = {name: Waiting(name, w.nodes[i % 3]) for i, name in enumerate(('lead', 'mate', 'solo', 'odd', 'late'))}
        for p in players.values():
            await p.__aenter__()
        assert (await players['solo'].match('teams', properties={'mode': 'flag'}))['op'] == 'queued'
        assert (await players['odd'].match('teams', properties={'mode': 'ball'}))['op'] == 'queued'
        assert (await players['lead'].match('teams', properties={'mode': 'flag'}, party=['mate', 'lead']))['op'] == 'queued'
        assert (await players['late'].match('teams', properties={'mode': 'flag'}))['op'] == 'queued'
        told = {name: await players[name].matched() for name in ('lead', 'mate', 'solo', 'late')}
        one_match_each(told)
        assert told['lead']['team'] == told['mate']['team'] != told['solo']['team'] == told['late']['team'], told
        assert 'ticket' not in told['mate'] and 'id' not in told['mate'], told['mate']
        for name, frame in told.items():
            await players[name].enter(frame)
        rows = {r['id']: r for r in json.loads(roomctl(w, 'queues', '--json'))}
        assert len(rows) == 7 and rows['teams']['waiting'] == 1 and rows['teams']['nodes'] == 3, rows
        table = roomctl(w, 'queues')
        assert 'QUEUE' in table and 'OLDEST_MS' in table and 'polite' in table, table
        assert (await players['odd'].unmatch('teams'))['reason'] == 'left'
        await close(players.values())
        await nothing_is_left(a)


async def ranges_widen(w):
    """350 apart, 100 at first and 100 more with each second: matched after two and a half, and not before two."""
    loop = asyncio.get_running_loop()
    async with Waiting('weak', w.nodes[0]) as weak, Waiting('strong', w.nodes[1]) as strong:
        assert (await weak.match('ranked', properties={'rank': 1000}))['op'] == 'queued'
        assert (await strong.match('ranked', properties={'rank': 1350.0}))['op'] == 'queued'
        begun = loop.time()
        await weak.matched()
        assert loop.time() - begun > 2, loop.time() - begun
        await strong.matched()


async def confirmed_or_not(w):
    async with Watcher(w.urls[0]) as a:
        players = await together(2, w, 'polite', 'yes')
        for p in players:
            ask = await p.hear('confirm')
            assert ask['players'] == 2 and ask['queue'] == 'polite' and 0 < ask['wait_ms'] <= 5000, ask
        await players[0].say(op='accept', id=50, match=ask['match'], accept=True)
        await players[1].say(op='accept', id=51, match=ask['match'], accept=True)
        told = {p.name: await p.matched() for p in players}
        assert told['yes-0']['match'] == ask['match'] and len(one_match_each(told)) == 1, told
        await close(players)
        players = await together(2, w, 'polite', 'no')
        ask = await players[0].hear('confirm')
        await players[0].say(op='accept', id=50, match=ask['match'], accept=True)
        await players[1].hear('confirm')
        await players[1].say(op='accept', id=51, match=ask['match'], accept=False)
        assert (await players[1].hear('unmatched'))['reason'] == 'unconfirmed'
        async with Waiting('third', w.nodes[2]) as third:  # whoever had accepted waits on, and is asked anew
            assert (await third.match('polite'))['op'] == 'queued'
            for p in (players[0], third):
                again = await p.hear('confirm')
                assert again['match'] != ask['match'], again
                await p.say(op='accept', id=60, match=again['match'], accept=True)
            for p in (players[0], third):
                await p.matched()
        await close(players)
        players = await together(2, w, 'hasty', 'late')
        ask = await players[0].hear('confirm')
        await players[0].say(op='accept', id=50, match=ask['match'], accept=True)
        assert (await players[1].hear('unmatched'))['reason'] == 'unconfirmed'
        assert (await players[0].unmatch('hasty'))['reason'] == 'left', 'it waits on'
        await close(players)
        await nothing_is_left(a)


async def a_room_gets_more_players(w):
    async with Watcher(w.urls[0]) as a, Player('host', w.nodes[0]) as host:
        joined = await host.joined(mode='create', type='duel', room_id='open-house')
        owner = (await a.kv('rooms', 'open-house'))[1]['owner']
        refused = await a.ctl(owner, op='backfill', room='open-house', queue='trio')
        assert refused['error'] == 'invalid' and 'count' in refused['message'], refused
        refused = await a.ctl(owner, op='backfill', room='nowhere', queue='trio', count=2)
        assert refused['error'] == 'not_found', refused
        asked = await a.ctl(owner, op='backfill', room='open-house', queue='trio', count=2)
        assert asked['ok'] and asked['result']['ticket'], asked
        players = await together(1, w, 'trio', 'more')
        frame = await players[0].matched()
        assert frame['room_id'] == 'open-house' and frame['players'] == ['more-0'], frame
        await players[0].enter(frame)
        other = await together(1, w, 'trio', 'another')
        frame = await other[0].matched()
        assert frame['room_id'] == 'open-house', frame
        assert joined['room_id'] == 'open-house'
        await close(players + other)
        await nothing_is_left(a)


async def what_others_write_is_judged(w):
    """A ticket taken for a match that nobody knows goes back; one of a match of nobody's that is open, too; and what is no entry
    is none."""
    async with Watcher(w.urls[0]) as a:
        player, = await together(1, w, 'trio', 'judged')

        async def there():
            return (await a.values('matchmaking')).get(player.ticket)
        ticket = await until(there, 'the ticket is written')

        def put(key, value):
            a.publish('$KV.matchmaking.' + key, value if isinstance(value, bytes) else json.dumps(value).encode())
        nobodys = {'queue': 'trio', 'type': 'duel', 'room': 'nowhere', 'state': 'open', 'tickets': [player.ticket],
                   'players': ['judged-0'], 'teams': [0], 'server': 'node-1', 'boot': '0', 'since': ''}
        for entry in (None, nobodys):
            if entry:
                put('match-nobodys', entry)
            put(player.ticket, {**ticket, 'state': 'matched', 'match': 'nobodys', 'room': 'nowhere'})

            async def back():
                found = (await a.values('matchmaking')).get(player.ticket)
                assert found, 'the ticket is lost'
                return found['state'] == 'waiting' and 'match' not in found and found['age_ms'] >= ticket['age_ms']
            await until(back, f'it waits again ({entry and "undone" or "unknown"})')
        for key, value in (('nonsense', b'{'), ('match-nonsense', b'[]'), ('match-', b'{}'), ('match-all', json.dumps(nobodys).encode()),
                           ('odd', json.dumps({**ticket, 'queue': 'nothing'}).encode()),
                           ('huge', json.dumps({**ticket, 'players': [f'p-{i}' for i in range(17)]}).encode())):
            put(key, value)
        others = await together(2, w, 'trio', 'judge')
        for p in [player] + others:
            frame = await p.matched()
            assert sorted(frame['players']) == ['judge-0', 'judge-1', 'judged-0'], frame
        for key in ('nonsense', 'match-nonsense', 'match-', 'match-all', 'odd', 'huge'):
            a.delete('matchmaking', key)
        await close([player] + others)
        await nothing_is_left(a)


async def one_node_alone(w):
    """Without NATS, and what is wrong with a queue is said at the start."""
    for queue, text in (('x=nothing,size=2', "no room type 'nothing'"), ('x=relay,teams=9x9', "teams='9x9'"), ('x', 'wanted NAME=TYPE'),
                        ('x=small,size=3', 'takes 2')):
        done = subprocess.run([sys.argv[1], '--standalone', '--listen', '127.0.0.1:0', '--type', 'small=relay,max_players=2', '--queue',
                               queue], capture_output=True, timeout=DEADLINE, check=False)
        assert done.returncode != 0 and text in done.stderr.decode(), (queue, done)
    alone = Node(sys.argv[1], 'alone', None, w.folder.name, '--standalone', *OPTIONS)
    try:
        alone.wait_ready()
        players = [Waiting(f'lone-{i}', alone) for i in range(2)]
        for p in players:
            await p.__aenter__()
            assert (await p.match('duel'))['op'] == 'queued'
        for p in players:
            await p.enter(await p.matched())
        await close(players)
    finally:
        alone.close()


SCENES = [players_of_all_nodes, who_asks_wrongly_is_told, whoever_waits_too_long_is_told, whoever_is_gone_is_not_matched,
          parties_and_teams, ranges_widen, confirmed_or_not, a_room_gets_more_players,
          what_others_write_is_judged, one_node_alone]


def main():
    async def run():
        with World(sys.argv[1], nodes=3, options=OPTIONS) as w:
            await play_scenes(w, [s for s in SCENES if len(sys.argv) < 4 or s.__name__ in sys.argv[3:]])
    asyncio.run(run())


if __name__ == '__main__':
    main()
