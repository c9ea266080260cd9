"""Two well-behaved players of one node in a process of their own: they talk all the while and say at the end what they saw.

Decides what "well served" is made of: every message arrives once and in order, and how long each took. As a program:
witness.py PORT, ends when its standard input does, and prints one line of JSON.
"""
import asyncio
import contextlib
import json
import subprocess
import sys
import time

from transport import Tcp

PAUSE_S = 0.005


class Witness:
    """`with Witness(node, die_with_parent) as seen:` - afterwards seen.report has messages, p50_ms, p99_ms and max_ms."""

    CONNECTIONS = 2

    def __init__(self, node, die_with_parent):
        self.report, self.process = None, subprocess.Popen(
            [sys.executable, __file__, str(node.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            preexec_fn=die_with_parent)

    def __enter__(self):
        assert self.process.stdout.readline() == b'talking\n'
        return self

    def __exit__(self, kind, *_):
        out, _ = self.process.communicate(timeout=60)
        if kind is None:
            assert self.process.returncode == 0, out
            self.report = json.loads(out)


async def sit(port, name):
    t = Tcp()
    await t.connect(port)
    await t.send(dict(op='hello', v=1, player=name))
    assert (await t.recv())['op'] == 'welcome'
    await t.send(dict(op='join', id=1, mode='join_or_create', type='relay', room_id='witnesses'))
    assert (await t.recv())['op'] == 'joined'
    return t


async def talk(speaker, listener, end):
    """Alternately a message and its arrival, so that the time of each is that of the node alone."""
    times, n = [], 0
    while not end.is_set() or n < 100:
        n += 1
        begun = time.monotonic()
        await speaker.send(dict(op='send', room=1, n=n, data={'n': n}))
        heard = await asyncio.wait_for(listener.recv(), 30)
        times.append(time.monotonic() - begun)
        assert heard['op'] == 'message' and heard['data'] == {'n': n} and heard['seq'] == n, (n, heard)
        sent = await asyncio.wait_for(speaker.recv(), 30)
        assert sent['op'] == 'sent' and sent['n'] == n, (n, sent)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(end.wait(), PAUSE_S)
    return times


async def main(port):
    ann, bob = await sit(port, 'witness-ann'), await sit(port, 'witness-bob')
    print('talking', flush=True)
    end = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, end.set)
    times = sorted(await talk(ann, bob, end))
    print(json.dumps({'messages': len(times), 'p50_ms': times[len(times) // 2] * 1000,
                      'p99_ms': times[len(times) * 99 // 100] * 1000, 'max_ms': times[-1] * 1000}))


if __name__ == '__main__':
    asyncio.run(main(int(sys.argv[1])))
