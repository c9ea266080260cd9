"""Three nats-servers and any number of real roomd nodes for the tests written in Python.

Decides how nodes are started, found and ended; knows nothing of what a test wants to see. Invariant: every process it
started is a child that dies with the test, and is ended by its process id only.
"""
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tools', 'lib'))
from nats_cluster import Cluster as NatsCluster, die_with_parent  # noqa: E402
import websockets  # noqa: E402

DEADLINE = 20


class Node:
    def __init__(self, roomd, name, urls, folder, *options):
        self.name = name
        self.log = open(os.path.join(folder, name + '.log'), 'ab')
        self.process = subprocess.Popen(
            [roomd, '--server-id', name, '--listen', '127.0.0.1:0', '--nats', ','.join(urls), *options],
            stdout=subprocess.PIPE, stderr=self.log, preexec_fn=die_with_parent)
        self.port = None

    def wait_ready(self):
        line = self.process.stdout.readline().decode()
        if not line.startswith('ready '):
            raise AssertionError(f'{self.name} did not get ready: {line!r}, exit {self.process.poll()}')
        self.port = int(line.strip().rsplit(':', 1)[1])
        return self

    def kill(self, signum=signal.SIGKILL):
        os.kill(self.process.pid, signum)

    def close(self):
        if self.process.poll() is None:
            self.kill(signal.SIGCONT)
            self.kill()
        self.process.wait()
        self.log.close()


class World:
    """`with World(roomd, nodes=3) as w:` - w.nats, w.nodes, w.urls."""

    def __init__(self, roomd, nodes=3, options=()):
        self.roomd, self.count, self.options = roomd, nodes, options
        self.folder = tempfile.TemporaryDirectory(prefix='roomd-test-')
        self.nats = NatsCluster(os.path.join(self.folder.name, 'nats'))
        self.nodes = []

    def __enter__(self):
        try:
            self.nats.start()
            self.urls = self.nats.urls()
            self.nodes = [self.node(f'node-{i + 1}') for i in range(self.count)]
            for node in self.nodes:
                node.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def node(self, name, *options):
        return Node(self.roomd, name, self.urls, self.folder.name, *self.options, *options)

    def __exit__(self, *args):
        if args and args[0]:
            for node in self.nodes:
                node.log.flush()
                with open(node.log.name) as f:
                    print(f'--- {node.name}\n' + ''.join(f.readlines()[-25:]), file=sys.stderr)
        for node in self.nodes:
            node.close()
        self.nats.stop()
        self.folder.cleanup()


class Player:
    """A WebSocket client that is not ours, speaking the JSON encoding."""

    def __init__(self, name, node, can=('relay',)):
        self.name, self.node, self.can, self.request, self.inbox = name, node, list(can), 0, []

    async def __aenter__(self):
        self.ws = await websockets.connect(f'ws://127.0.0.1:{self.node.port}/ws', subprotocols=['roomd.v1.json'],
                                           ping_interval=None)
        await self.say(op='hello', v=1, player=self.name, can=self.can)
        self.welcome = await self.hear('welcome')
        return self

    async def __aexit__(self, *_):
        await self.ws.close()

    async def say(self, **frame):
        await self.ws.send(json.dumps(frame))

    async def hear(self, *ops, timeout=DEADLINE):
        """The next frame with one of these ops; others wait in the inbox."""
        for i, frame in enumerate(self.inbox):
            if frame['op'] in ops:
                return self.inbox.pop(i)
        while True:
            frame = json.loads(await asyncio.wait_for(self.ws.recv(), timeout))
            if frame['op'] in ops:
                return frame
            self.inbox.append(frame)

    async def join(self, **frame):
        self.request += 1
        await self.say(op='join', id=self.request, **frame)
        return await self.hear('joined', 'redirect', 'error')


async def until(condition, what, timeout=DEADLINE):
    """Waits for a condition; never for a time."""
    end = time.monotonic() + timeout
    while True:
        value = await condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'not within {timeout} s: {what}')
        await asyncio.sleep(0.02)
