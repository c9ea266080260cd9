"""What rooms do while nobody can reach their node: by what they keep, and by `on_isolation` of their type. Usage: isolation.py ROOMD"""
import asyncio
import os
import sys
import time

from cluster import OneNats, Player, World, die_with_parent, until

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from proxy import Proxy  # noqa: E402

STILL = {'counter': {'add': 1}, 'state': {'set': {'k': 1}}, 'firm': 'hello'}  # a journal, a snapshot, nothing but a wish
PLAYING = {'relay': 'hello', 'loose': {'set': {'k': 1}}}
OPTIONS = ('--type', 'firm=relay,on_isolation=freeze', '--type', 'loose=state,on_isolation=play')


async def scene(node, proxy):
    async with Player('ann', node) as ann:
        rooms = {t: await ann.joined(mode='create', type=t, room_id=t) for t in (*STILL, *PLAYING)}
        number = {t: rooms[t]['room'] for t in rooms}
        n = 0
        proxy.mode('cut')

        async def isolated():
            return 'msg="isolated"' in node.logged()
        await until(isolated, 'the node says that it is isolated')
        paused = {(await ann.hear('paused'))['room'] for _ in STILL}
        assert paused == {number[t] for t in STILL}, (paused, number)
        for kind, data in PLAYING.items():
            n += 1
            assert (await ann.send(number[kind], n, data))['op'] == 'sent', kind
        queued = {}
        for kind, data in STILL.items():
            n += 1
            queued[number[kind]] = n
            await ann.say(op='send', room=number[kind], n=n, data=data)
        await ann.say(op='ping', t=7)
        await ann.hear('pong')
        assert not [f for f in ann.inbox if f['op'] in ('sent', 'paused', 'resumed')], ann.inbox
        proxy.mode('pass')
        back = {(await ann.hear('resumed'))['room'] for _ in STILL}
        assert back == paused, (back, paused)
        done = [await ann.hear('sent') for _ in STILL]
        assert {f['room']: f['n'] for f in done} == queued, (done, queued)


def main():
    begun = time.monotonic()
    with World(sys.argv[1], nodes=0, nats=OneNats) as w:
        proxy = Proxy('127.0.0.1', int(w.urls[0].rsplit(':', 1)[1]), die_with_parent)
        try:
            async def run():
                await scene(await w.add('node-1', '--nats', f'nats://127.0.0.1:{proxy.port}', *OPTIONS), proxy)
            asyncio.run(run())
        finally:
            proxy.close()
    print(f'ok isolation ({time.monotonic() - begun:.1f} s)', flush=True)


if __name__ == '__main__':
    main()
