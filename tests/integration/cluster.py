"""One or three nats-servers and any number of real roomd nodes for the tests written in Python.

Decides how nodes are started, found and ended; knows nothing of what a test wants to see. Invariant: every process it
started is a child that dies with the test, and is ended by its process id only.
"""
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tools', 'lib'))
from nats_cluster import Cluster as NatsCluster, die_with_parent, free_ports  # noqa: E402
from transport import WebSocketJson  # noqa: E402

DEADLINE = 20
# For nodes that a test starts by hand: nothing of theirs is left in the home of whoever runs the tests.
HOME_OF_STRAYS = tempfile.TemporaryDirectory(prefix='roomd-test-')
os.environ.setdefault('ROOMD_DATA_DIR', HOME_OF_STRAYS.name)


class OneNats:
    """A single nats-server with JetStream: quicker to start than three, for what does not need them."""

    def __init__(self, folder, binary=None, options=()):
        self.folder, self.servers, self.options = folder, [], options
        self.binary = NatsCluster(folder, binary).binary

    def start(self, attempts=3):
        for _ in range(attempts):  # another process may take the port between our look and the server's bind
            port, = free_ports(1)
            os.makedirs(self.folder, exist_ok=True)
            with open(os.path.join(self.folder, 'out'), 'wb') as out:
                process = subprocess.Popen([self.binary, '-a', '127.0.0.1', '-p', str(port), '-js', '-sd', self.folder,
                                           *self.options],
                                           stdout=out, stderr=out, preexec_fn=die_with_parent)
            self.servers = [{'process': process, 'url': f'nats://127.0.0.1:{port}'}]
            end = time.monotonic() + DEADLINE
            while process.poll() is None and time.monotonic() < end:
                try:
                    socket.create_connection(('127.0.0.1', port), 1).close()
                    return
                except OSError:
                    time.sleep(0.01)
            self.stop()
        raise AssertionError('nats-server does not start: ' + open(os.path.join(self.folder, 'out')).read()[-500:])

    def urls(self):
        return [s['url'] for s in self.servers]

    def stop(self):
        for s in self.servers:
            s['process'].kill()
            s['process'].wait()
        self.servers = []


class Node:
    """One roomd. `urls` None: no --nats. `listen` and `server_id` can be overruled by `options`, the last one wins."""

    def __init__(self, roomd, name, urls, folder, *options, environ=None):
        self.name = name
        self.log = open(os.path.join(folder, name + '.log'), 'ab')
        nats = ['--nats', ','.join(urls)] if urls else []
        self.process = subprocess.Popen(
            [roomd, '--server-id', name, '--listen', '127.0.0.1:0', '--data-dir', os.path.join(folder, 'data'), *nats,
             *options], env=environ,
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

    def logged(self):
        with open(self.log.name, encoding='utf-8') as f:
            return f.read()

    def resident(self):
        """Resident bytes of the process."""
        with open(f'/proc/{self.process.pid}/statm', encoding='ascii') as f:
            return int(f.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')

    async def ended(self, timeout=DEADLINE):
        """Waits for the process; its exit code."""
        async def over():
            return self.process.poll() is not None
        await until(over, f'the end of {self.name}', timeout)
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.kill(signal.SIGCONT)
            self.kill()
        self.process.wait()
        self.log.close()


class World:
    """`with World(roomd, nodes=3) as w:` - w.nats, w.nodes, w.urls. `nats`: NatsCluster or OneNats."""

    def __init__(self, roomd, nodes=3, options=(), nats=NatsCluster, binary=None):
        self.roomd, self.count, self.options = roomd, nodes, options
        self.folder = tempfile.TemporaryDirectory(prefix='roomd-test-')
        self.nats = nats(os.path.join(self.folder.name, 'nats'), binary)
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
        """A node that is started but not waited for; whoever wants it ended with the world appends it to w.nodes."""
        return Node(self.roomd, name, self.urls, self.folder.name, *self.options, *options)

    async def add(self, name, *options):
        """One more node, ready."""
        node = self.node(name, *options)
        self.nodes.append(node)
        return await asyncio.get_running_loop().run_in_executor(None, node.wait_ready)

    async def drop(self, node):
        """Ends a node gracefully and forgets it."""
        node.kill(signal.SIGTERM)
        await node.ended()
        node.close()
        self.nodes.remove(node)

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
    """A client that is not ours: any of the three transports, WebSocket with JSON unless told otherwise."""

    def __init__(self, name, node, can=('relay',), over=WebSocketJson, token=None):
        self.token = token
        self.name, self.node, self.can, self.request, self.inbox = name, node, list(can), 0, []
        self.over = over()

    async def __aenter__(self):
        await self.over.connect(self.node.port)
        await self.say(op='hello', v=1, player=self.name, can=self.can, **({'token': self.token} if self.token else {}))
        self.welcome = await self.hear('welcome')
        return self

    async def __aexit__(self, *_):
        await self.over.close()

    async def say(self, **frame):
        await self.over.send(frame)

    async def hear(self, *ops, timeout=DEADLINE):
        """The next frame with one of these ops; others wait in the inbox. `closed` is the op of the connection's end."""
        for i, frame in enumerate(self.inbox):
            if frame['op'] in ops:
                return self.inbox.pop(i)
        while True:
            frame = await asyncio.wait_for(self.over.recv(), timeout) or {'op': 'closed'}
            if frame['op'] in ops:
                return frame
            if frame['op'] == 'closed':
                raise AssertionError(f'{self.name} was disconnected while waiting for {ops}; heard before: {self.inbox}')
            self.inbox.append(frame)

    async def join(self, **frame):
        self.request += 1
        await self.say(op='join', id=self.request, **frame)
        return await self.hear('joined', 'redirect', 'error')

    async def joined(self, **frame):
        """join() that must end in a seat."""
        answer = await self.join(**frame)
        assert answer['op'] == 'joined', (frame, answer)
        return answer

    async def refused(self, **frame):
        """join() that must be refused: the code."""
        answer = await self.join(**frame)
        assert answer['op'] == 'error' and answer['id'] == self.request, (frame, answer)
        return answer['code']

    async def send(self, room, n, data):
        """A message and its acknowledgement, or the error that came instead."""
        await self.say(op='send', room=room, n=n, data=data)
        return await self.hear('sent', 'error')

    async def leave(self, room):
        self.request += 1
        await self.say(op='leave', id=self.request, room=room)
        return await self.hear('left')


async def let_in(node, name, token=None, over=WebSocketJson):
    """`welcome`, or the code of the error that a hello is answered with; then nothing else comes, and the connection ends."""
    over = over()
    await over.connect(node.port)
    await over.send(dict(op='hello', v=1, player=name, **({'token': token} if token is not None else {})))
    frames = []
    while frame := await asyncio.wait_for(over.recv(), DEADLINE):
        frames.append(frame)
        if frame['op'] == 'welcome':
            await over.close()
            return 'welcome'
    await over.close()
    assert len(frames) == 1 and frames[0]['op'] == 'error' and frames[0]['message'], frames
    return frames[0]['code']


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


async def play_scenes(w, scenes):
    """One after the other in one world; says which held, and how long it took."""
    for scene in scenes:
        begun = time.monotonic()
        await scene(w)
        print(f'ok {scene.__name__} ({time.monotonic() - begun:.1f} s)', flush=True)
