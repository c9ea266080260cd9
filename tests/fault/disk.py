"""Big states, damaged copies, a full disk. Usage: disk.py ROOMD ROOMCTL BLOB.so [SCENE...]"""
import asyncio
import json
import os
import resource
import signal
import sys

import field
from field import NODE_OPTIONS, play, until
from cluster import Player, die_with_parent
from proxy import Proxy
from transport import Tcp

BLOB = sys.argv.pop(3)
BIG = 3_000_000

async def restarted(w, i):
    """kill -9, and the same id again with what it has on disk."""
    old = w.nodes[i]
    if old.process.poll() is None:
        old.kill()
    old.process.wait()
    old.close()
    w.nodes[i] = w.node(old.name)
    await asyncio.get_running_loop().run_in_executor(None, w.nodes[i].wait_ready)

async def saved(f, node, room):
    answer = await f.watch.ctl(node.name, wait_s=15, op='save', room=room)
    assert answer['ok'], answer

async def asked(node, room, kind, data, name='asker'):
    """What the room answers to one message of somebody who joins it."""
    async with Player(name, node, over=Tcp) as p:
        async def seated():
            answer = await p.join(mode='join', type=kind, room_id=room)
            return answer['op'] == 'joined' and answer
        seat = await until(seated, f'{name} sits in {room}')
        return (await p.send(seat['room'], 1, data)).get('result')

async def big_state(w, f):
    """3 MB: saved, carried in chunks, restored by another node; what it says of itself is the same."""
    async with Player('maker', w.nodes[0], over=Tcp) as p:
        seat = await p.joined(mode='create', type='blob', room_id='big')
        before = (await p.send(seat['room'], 1, BIG))['result']
        assert before[0] == BIG, before
    await saved(f, w.nodes[0], 'big')
    entry = (await f.watch.kv('snapshots', 'big'))[1]
    assert entry['bytes'] > BIG and entry['chunks'] == -(-entry['bytes'] // (512 * 1024)), entry
    w.nodes[0].kill()
    after = await asked(w.nodes[1], 'big', 'blob', None)
    assert after == before, (before, after)
    moved = f.migrated('big')
    print(f'   {entry["bytes"]} bytes in {entry["chunks"]} chunks, restored in {moved[0][1]["took_ms"]} ms, '
          f'{moved[0][1]["age_ms"]} ms old', flush=True)

def flip(path, marker):
    """Spoils each copy of `marker` in the file; how many there were."""
    with open(path, 'r+b') as file:
        data, at, count = file.read(), -1, 0
        while (at := data.find(marker, at + 1)) >= 0:
            file.seek(at)
            file.write(b'X')
            count += 1
    return count

async def damaged_disk(w, f):
    """A flipped byte in every copy on the node's own disk: the one in JetStream is taken, and the damage is named."""
    async with Player('maker', w.nodes[0]) as p:
        seat = await p.joined(mode='create', type='state', room_id='doc')
        await p.send(seat['room'], 1, {'set': {'k': 'a-word-that-is-nowhere-else'}})
    await saved(f, w.nodes[0], 'doc')
    node = w.nodes[0]
    node.kill()
    node.process.wait()
    path = os.path.join(w.folder.name, 'data', node.name, 'data.mdb')
    assert flip(path, b'a-word-that-is-nowhere-else') >= 1
    await restarted(w, 0)
    answer = await read_doc(w, f, 'doc')
    assert answer == {'k': 'a-word-that-is-nowhere-else'}, answer

async def damaged_bucket(w, f):
    """The same in the bucket: the copy on disk is taken."""
    await w.drop(w.nodes[1])  # it has no copy
    async with Player('maker', w.nodes[0]) as p:
        seat = await p.joined(mode='create', type='state', room_id='doc')
        await p.send(seat['room'], 1, {'set': {'k': 'on disk'}})
    await saved(f, w.nodes[0], 'doc')
    revision, entry = await f.watch.kv('snapshots', 'doc')
    entry['checksum'] = '0' * 16
    entry['version'] += 1000
    f.watch.publish('$KV.snapshots.doc', json.dumps(entry).encode())

    async def there():
        return (await f.watch.kv('snapshots', 'doc'))[0] > revision
    await until(there, 'the damage is in the bucket')
    await restarted(w, 0)
    assert await read_doc(w, f, 'doc') == {'k': 'on disk'}

    async def named():
        return any('a snapshot in the bucket is damaged' in n.logged() for n in w.nodes)
    await until(named, 'the damage is named in a log')

async def damaged_before_carried(w, f):
    """A snapshot rots on the disk while NATS is away: the room, which still runs, is saved anew and carried."""
    proxies = [Proxy('127.0.0.1', int(u.rsplit(':', 1)[1]), die_with_parent) for u in w.urls]
    try:
        node = await w.add('node-3', '--nats', ','.join(f'nats://127.0.0.1:{p.port}' for p in proxies))
        for other in w.nodes[:2]:
            await w.drop(other)  # nobody takes the room meanwhile
        async with Player('maker', node) as p:
            seat = await p.joined(mode='create', type='state', room_id='doc')
            for proxy in proxies:
                proxy.mode('cut')
            assert (await p.send(seat['room'], 1, {'set': {'k': 'a-word-on-its-way'}}))['op'] == 'sent'
            path = os.path.join(w.folder.name, 'data', node.name, 'data.mdb')

            async def spoilt():
                return flip(path, b'a-word-on-its-way')
            await until(spoilt, 'a snapshot is on the disk')
            for proxy in proxies:
                proxy.mode('pass')

            async def carried():
                found = await f.watch.kv('snapshots', 'doc')
                return found and 'damaged snapshot' in node.logged()
            await until(carried, 'the damage is named, and a snapshot is in the bucket', 30)
    finally:
        for proxy in proxies:
            proxy.close()


async def read_doc(w, f, room):
    async with Player('reader', w.nodes[0]) as p:
        async def seated():
            answer = await p.join(mode='join', type='state', room_id=room)
            return answer['op'] == 'joined' and answer
        return (await until(seated, f'somebody sits in {room}'))['state']

async def full_disk(w, f):
    """No byte more fits: rooms play on, the error is named, and it goes on by itself when there is space again."""
    node = w.nodes[0]
    pid = node.process.pid
    async with Player('maker', node, over=Tcp) as p:
        counter = (await p.joined(mode='create', type='counter', room_id='count'))['room']
        blob = (await p.joined(mode='create', type='blob', room_id='big'))['room']
        path = os.path.join(w.folder.name, 'data', node.name, 'data.mdb')
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (os.path.getsize(path), hard))
        await p.send(blob, 1, BIG)
        asking = asyncio.create_task(saved(f, node, 'big'))

        async def named():
            info = (await f.watch.ctl(node.name, op='info'))['result']
            return info['store_error'] and info
        info = await until(named, 'the trouble is told by the node')
        for n in range(2, 102):
            assert (await p.send(counter, n, {'add': 1}))['result'] == {'value': n - 1}
        assert 'snapshots do not reach the disk' in node.logged()
        print(f'   while it is full: "{info["store_error"]}"', flush=True)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        await asking

        async def well():
            return not (await f.watch.ctl(node.name, op='info'))['result']['store_error']
        await until(well, 'the trouble is over')
    node.kill(signal.SIGKILL)
    assert (await asked(w.nodes[1], 'big', 'blob', None))[0] == BIG
    assert (await asked(w.nodes[1], 'count', 'counter', {'add': 1}))['value'] == 101

if __name__ == '__main__':
    play([big_state, damaged_disk, damaged_bucket, damaged_before_carried, full_disk], nodes=2,
         options=NODE_OPTIONS + ('--room-type', os.path.abspath(BLOB), '--snapshot-interval', '2s'))
