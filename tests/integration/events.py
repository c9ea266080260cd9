"""What a stranger with `nats sub` and `nats kv get` sees: events and registry entries are readable JSON, one line each, and
valid for the schemas; two clusters with different prefixes on one NATS see nothing of each other.
Usage: events.py ROOMD NOTICE.so"""
import asyncio
import datetime
import json
import re
import sys

import jsonschema

from cluster import Player, World, until
from transport import SCHEMAS
from watcher import Watcher

ULID = re.compile('[0-7][0-9A-HJKMNP-TV-Z]{25}')


def validator(name):
    schema = json.loads((SCHEMAS / f'{name}.json').read_text(encoding='utf-8'))
    return jsonschema.Draft202012Validator(schema)


EVENTS = {path.stem: validator(path.stem) for path in SCHEMAS.glob('event_*.json')}
BEAT, ROOM, SERVER = validator('beat'), validator('room_entry'), validator('server_entry')


def check_time(text):
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z', text), text
    at = datetime.datetime.fromisoformat(text.replace('Z', '+00:00'))
    assert abs((datetime.datetime.now(datetime.timezone.utc) - at).total_seconds()) < 120, text


def check_event(subject, body, seen):
    """One line of JSON whose type, subject and schema agree; returns it."""
    text = body.decode('utf-8')
    assert '\n' not in text and text.isprintable(), text
    event = json.loads(text)
    about, name, verb = subject.split('.')
    if verb == 'beat':
        BEAT.validate(event)
        return event
    assert event['type'] == f'{about}:{verb}', (subject, event)
    EVENTS[f'event_{about}_{verb}'].validate(event)
    assert event[{'room': 'room', 'player': 'player', 'server': 'server'}[about]] == name, (subject, event)
    assert ULID.fullmatch(event['id']) and event['id'] not in seen, event
    seen.add(event['id'])
    check_time(event['time'])
    return event


async def all_heard(w, watch):
    """The subscriptions have reached every nats-server: a beat of each node, sent after them, is here."""
    async def beats():
        return all(watch.events(f'server.{n.name}.beat') for n in w.nodes)
    await until(beats, 'a beat of each node')


async def entry_is(watch, what, **fields):
    async def there():
        found = await watch.kv('rooms', 'board')
        return found and all(found[1].get(k) == v for k, v in fields.items()) and found[1]
    entry = await until(there, f'{what}: {fields}')
    ROOM.validate(entry)
    check_time(entry['created'])
    return entry


def updates(watch, room):
    return [e for _, e in watch.events(f'room.{room}.updated')]


async def life_of_a_room(w, watch):
    """Create, players, metadata, lock, dispose: each is an event and a state of the entry."""
    async with Player('ann', w.nodes[0]) as ann, Player('bob', w.nodes[1]) as bob:
        joined = await ann.joined(mode='create', type='notice', room_id='board')
        entry = await entry_is(watch, 'listed', players=1, locked=False, private=False, state='running')
        assert entry['type'] == 'notice' and entry['max_players'] == 8 and entry['durability'] == 'none', entry
        assert 'metadata' not in entry
        owner = entry['owner']
        seat = await bob.joined(mode='join', type='notice', room_id='board')
        await entry_is(watch, 'second player', players=2, seats=2)
        notice = {'map': 'dust', 'lines': ['one\ntwo', 'ünï'], 'open': True}
        assert (await ann.send(joined['room'], 1, notice))['op'] == 'sent'
        await entry_is(watch, 'metadata', metadata=notice)
        assert (await watch.ctl(owner, op='lock', room='board'))['ok']
        await entry_is(watch, 'locked', locked=True, metadata=notice)
        await bob.leave(seat['room'])
        await entry_is(watch, 'one player left', players=1)
        assert (await ann.send(joined['room'], 2, None))['op'] == 'sent'
        entry = await entry_is(watch, 'metadata gone', metadata=None)
        assert (await watch.ctl(owner, op='close', room='board'))['ok']
        assert (await ann.hear('left'))['reason'] == 'closed'

        async def gone():
            return watch.events('room.board.disposed') and await watch.kv('rooms', 'board') is None
        await until(gone, 'the room has left the listing')
    created = [e for _, e in watch.events('room.board.created')]
    assert len(created) == 1 and created[0]['server'] == owner and created[0]['room_type'] == 'notice', created
    told = updates(watch, 'board')
    for fields in (dict(players=2), dict(metadata=notice, locked=False), dict(metadata=notice, locked=True)):
        assert any(fields.items() <= e.items() for e in told), (fields, told)
    assert 'metadata' not in told[-1] and told[-1]['players'] == 1, 'metadata taken away was not told'
    disposed = [e for _, e in watch.events('room.board.disposed')]
    assert [e['reason'] for e in disposed] == ['closed'], disposed
    for player in ('ann', 'bob'):
        assert [e['room'] for _, e in watch.events(f'player.{player}.joined')] == ['board']
        assert [e['room'] for _, e in watch.events(f'player.{player}.left')] == ['board']
    assert watch.events('player.bob.left')[0][1]['reason'] == 'left'
    assert watch.events('player.ann.left')[0][1]['reason'] == 'closed'


async def life_of_a_server(w, watch):
    node = await w.add('node-4')

    async def online():
        return watch.events('server.node-4.online') and await watch.kv('servers', 'node-4')
    await until(online, 'server.node-4.online')
    entries = await watch.values('servers')
    assert set(entries) == {'node-1', 'node-2', 'node-3', 'node-4'}, entries
    for entry in entries.values():
        SERVER.validate(entry)
        check_time(entry['seen'])
        check_time(entry['started'])
        assert ULID.fullmatch(entry['boot']) and entry['status'] == 'up', entry
    assert entries['node-4']['port'] == node.port
    event = watch.events('server.node-4.online')[0][1]
    assert event['boot'] == entries['node-4']['boot'] and event['port'] == node.port, event
    await w.drop(node)

    async def offline():
        return watch.events('server.node-4.offline')
    await until(offline, 'server.node-4.offline')


async def everything_is_valid(watch):
    seen, kinds = set(), set()
    for _, subject, body in watch.heard:
        if subject.split('.')[-1] in ('ping', 'rpc', 'relay', 'ctl'):
            continue
        event = check_event(subject, body, seen)
        kinds.add(event.get('type', 'beat'))
    wanted = {'room:created', 'room:updated', 'room:disposed', 'player:joined', 'player:left', 'player:online',
              'player:offline', 'server:online', 'server:offline', 'beat'}
    assert kinds == wanted, kinds ^ wanted
    print(f'   {len(watch.heard)} messages heard, {len(seen)} events of {len(kinds) - 1} kinds')


async def prefixes(w):
    """Two more clusters on the same NATS: nothing of one appears under a subject or bucket of another."""
    async with Watcher(w.urls[1]) as watch:
        watch.subscribe('>')
        crimson = [await w.add(f'crimson-{i}', '--prefix', 'red') for i in (1, 2)]
        azure = [await w.add(f'azure-{i}', '--prefix', 'blue') for i in (1, 2)]

        async def beats():
            return all(watch.events(f'{p}.server.{n.name}.beat') for p, part in (('red', crimson), ('blue', azure))
                       for n in part)
        await until(beats, 'beats of both clusters')
        async with Player('rose', crimson[0]) as rose, Player('sky', azure[0]) as sky, \
                Player('rose2', crimson[1]) as rose2, Player('sky2', azure[1]) as sky2:
            for one, two in ((rose, rose2), (sky, sky2)):
                here = await one.joined(mode='create', type='relay', room_id='same-name')
                there = await two.joined(mode='join', type='relay', room_id='same-name')
                assert {here['via'], there['via']} == {'local', 'relay'}, (here, there)
                await one.say(op='send', room=here['room'], n=1, data='for my own cluster')
                assert (await two.hear('message'))['from'] == one.name
                assert len(one.welcome['servers']) == 2, one.welcome

        async def both_gone():
            return all(watch.events(f'{p}.player.{n}.offline') for p, n in (('red', 'rose2'), ('blue', 'sky2')))
        await until(both_gone, 'the last events of both clusters')
        words = {'red': (b'azure-', b'"sky'), 'blue': (b'crimson-', b'"rose')}
        counts = {'red': 0, 'blue': 0, '': 0}
        for _, subject, body in watch.heard:
            if subject.startswith(('_INBOX', '$JS.', '_R_', '_test')):
                continue
            stored = re.match(r'\$KV\.(red_|blue_|)', subject)
            prefix = stored.group(1).rstrip('_') if stored else subject.split('.')[0]
            if prefix not in words:
                assert not any(name in subject.encode() + body for both in words.values() for name in both), subject
                counts[''] += 1
                continue
            assert not any(name in subject.encode() + body for name in words[prefix]), (subject, body)
            counts[prefix] += 1
        assert all(counts.values()), counts
        streams = set(json.loads(await watch.request('$JS.API.STREAM.NAMES'))['streams'])
        names = ('', 'red_', 'blue_')
        wanted = {f'KV_{p}{b}' for p in names
                  for b in ('rooms', 'servers', 'players', 'sessions', 'locks', 'shared', 'snapshots', 'cluster')}
        assert streams == wanted | {f'{p}{s}' for p in names for s in (*(f'ROOM_JOURNAL_{k}' for k in range(4)), 'PLAYER_INBOX')}, streams
        print(f'   messages by prefix: {counts}')


async def run(w):
    async with Watcher(w.urls[0]) as watch:
        for subject in ('room.>', 'player.>', 'server.>'):
            watch.subscribe(subject)
        await all_heard(w, watch)
        await life_of_a_room(w, watch)
        print('ok life_of_a_room', flush=True)
        await life_of_a_server(w, watch)
        print('ok life_of_a_server', flush=True)
        await everything_is_valid(watch)
        print('ok everything_is_valid', flush=True)
    await prefixes(w)
    print('ok prefixes', flush=True)


def main():
    with World(sys.argv[1], options=('--room-type', sys.argv[2])) as w:
        asyncio.run(run(w))


if __name__ == '__main__':
    main()
