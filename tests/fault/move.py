"""Rooms move while they are played in: one by one, all of a node, and all nodes in turn.
Usage: move.py ROOMD ROOMCTL [SCENE...]"""
import asyncio
import signal
import time

from field import ledger, play, until, within


STEPS = 4  # a move is a dozen messages in a row: what holds up a room that nobody touches holds it up several times


async def back_and_forth(w, f):
    """50 migrations back and forth under load: order kept, nothing lost or doubled, short pauses."""
    accounts = await f.fill(w.nodes[0], 2, 5, 'ball')
    bystander, = await f.fill(w.nodes[2], 1, 1, 'still', gateways=w.nodes[2:])
    since, pauses = time.monotonic(), []
    before = [n.resident() for n in w.nodes]
    for i in range(50):
        source, target = w.nodes[i % 2], w.nodes[(i + 1) % 2]
        for a in accounts:
            answer = await f.watch.ctl(source.name, wait_s=15, op='migrate', room=a.room, server=target.name)
            within(answer.get('error') != 'timeout', answer)  # rolled back: NATS was electing a leader, on a machine that busy
            assert answer['ok'] and answer['result']['server'] == target.name, answer
            epoch, asked = answer['result']['epoch'], len(a.times)

            async def acknowledged():
                return a.times[-1][1] == epoch and len(a.times) >= asked + 5
            await until(acknowledged, f'{a.room} acknowledges at its new owner')
    for a in accounts:
        highest = 0
        for i, (t, epoch) in enumerate(a.times):
            if epoch > highest and t > since:
                pauses.append((a.times[i - 1][0], t))
            highest = max(highest, epoch)
        assert len(f.migrated(a.room)) == 50 and {e['reason'] for _, e in f.migrated(a.room)} == {'migration'}
    ms = [(end - begin) * 1000 for begin, end in pauses]
    others = [bystander.longest_gap(*p) * 1000 for p in pauses]
    rate = sum(len(a.times) for a in accounts) / (time.monotonic() - since)
    grown = [n.resident() - b for n, b in zip(w.nodes, before)]
    print(f'   {len(pauses)} moves at {rate:.0f} inputs/s: pause median {ledger.percentile(ms, 50):.1f} ms, '
          f'p99 {ledger.percentile(ms, 99):.1f} ms, p99 of a room that stays {ledger.percentile(others, 99):.1f} ms; '
          f'grown {[g // 1024 for g in grown]} KiB', flush=True)
    found = await f.settle(w.nodes[2])
    assert not found, found
    assert not any(p.seats_lost or p.connections > 1 or p.account.doubts for p in f.players), 'nobody lost anything'
    assert len(pauses) == 100 and max(grown) < 8 << 20, (len(pauses), grown)
    print('   ' + f.total(), flush=True)
    limit = max(100, STEPS * ledger.percentile(others, 99))
    within(ledger.percentile(ms, 99) < limit, f'{sorted(ms)[-5:]}, of a room that stays {sorted(others)[-5:]}')


async def drained(w, f):
    """A node with 200 rooms and 500 players is drained: nothing acknowledged is lost, relayed players keep their socket."""
    victim = w.nodes[2]
    await f.fill(victim, 100, 3, 'd', gateways=w.nodes)
    await f.fill(victim, 100, 2, 'e', gateways=w.nodes)
    relayed = [p for p in f.players if p.nodes[0] is not victim]
    at = time.monotonic()
    assert (await f.watch.ctl(victim.name, op='drain'))['ok']

    async def empty():
        info = (await f.watch.ctl(victim.name, op='info'))['result']
        return info['rooms'] == 0 and info['connections'] == 0 and info
    info = await until(empty, 'the node is empty', 60)
    took = time.monotonic() - at
    print(f'   200 rooms and {len(f.players)} players: empty after {took:.1f} s, {info["drain_moved"]} rooms moved', flush=True)
    assert (await f.watch.kv('servers', victim.name))[1]['status'] == 'draining'

    async def told():
        return all(p.sent_away for p in f.players if p not in relayed)
    await until(told, 'every direct player has read that he is to reconnect', 30)
    found = await f.settle(w.nodes[0])
    assert not found, found
    assert not any(p.connections > 1 or p.seats_lost for p in relayed), 'a relayed player was disconnected'
    assert all(p.sent_away == 1 for p in f.players if p not in relayed), 'a direct player was sent away twice'
    assert not any(a.doubts for a in f.accounts if all(p in relayed for p in f.players if p.account is a))
    for a in f.accounts:
        assert [e['reason'] for _, e in f.migrated(a.room)] == ['drain'], (a.room, f.migrated(a.room))
    print('   ' + f.total(), flush=True)
    assert (await f.watch.ctl(victim.name, op='undrain'))['ok']

    async def up():
        return (await f.watch.kv('servers', victim.name))[1]['status'] == 'up'
    await until(up, 'the node is up again')
    within(took < 30, took)


async def rolling_restart(w, f):
    """SIGTERM to each node in turn, and the same id again: each drains by itself; the check is clean after each."""
    for i, node in enumerate(w.nodes):
        await f.fill(node, 5, 3, f'r{i}', gateways=w.nodes)
    loop = asyncio.get_running_loop()
    for i in range(3):
        old, at = w.nodes[i], time.monotonic()
        old.kill(signal.SIGTERM)
        code = await old.ended(40)
        took = time.monotonic() - at
        assert code == 0, (code, old.logged()[-2000:])
        new = w.node(old.name)
        for p in f.players:
            p.nodes[p.nodes.index(old)] = new
        w.nodes[i] = new
        await loop.run_in_executor(None, new.wait_ready)
        old.close()

        async def clean():
            return (await loop.run_in_executor(None, f.run_check)).returncode == 0
        await until(clean, f'roomctl check is clean after {old.name}')
        print(f'   {old.name} drained and ended in {took:.1f} s', flush=True)
    found = await f.settle(w.nodes[0])
    assert not found, found
    assert not any(p.seats_lost for p in f.players), [p.name for p in f.players if p.seats_lost]
    print('   ' + f.total(), flush=True)


if __name__ == '__main__':
    play([back_and_forth, drained, rolling_restart])
