"""A player whose session outlives its connections: it says `can: resume`, remembers the secret and the last number it has seen.

Decides what a session may not do: give a number twice, leave one out unless `resync` says so, or answer an input twice.
Knows nothing of where a session is kept.
"""
import asyncio

from cluster import DEADLINE
from transport import Tcp


class Resumer:
    def __init__(self, name, can=('relay', 'resume')):
        self.name, self.can, self.over = name, list(can), None
        self.token, self.seq, self.session, self.request = None, 0, None, 0
        self.inbox, self.missed = [], 0

    async def come(self, node, over=Tcp, resume=True):
        """Connects, over any transport, and says hello; the `welcome`, or whatever came in its place."""
        self.over = over()
        await self.over.connect(node.port)
        hello = {'op': 'hello', 'v': 1, 'player': self.name, 'can': self.can}
        if resume and self.token:
            hello.update(resume=self.token, last_seq=self.seq)
        await self.over.send(hello)
        self.welcome = await self.frame()
        if self.welcome['op'] != 'welcome':
            return self.welcome
        if not self.welcome['resumed']:
            self.seq = 0
        assert self.welcome['seq'] >= self.seq
        self.session, self.token = self.welcome['session'], self.welcome['resume']
        return self.welcome

    async def back(self, node, over=Tcp):
        """come() that must find the session again."""
        before = self.session
        welcome = await self.come(node, over)
        assert welcome['op'] == 'welcome' and welcome['resumed'] and self.session == before, welcome
        return welcome

    async def frame(self, timeout=DEADLINE):
        frame = await asyncio.wait_for(self.over.recv(), timeout) or {'op': 'closed'}
        if 'seq' in frame and frame['op'] in ('message', 'push'):
            assert frame['seq'] == self.seq + 1, f"{self.name}: {frame['seq']} after {self.seq}"
            self.seq += 1
        elif frame['op'] == 'resync':
            self.missed += frame['missed']
            assert frame['seq'] >= self.seq, frame
            self.seq = frame['seq']
        return frame

    async def hear(self, *ops, timeout=DEADLINE):
        """The next frame with one of these ops; others wait in the inbox."""
        for i, frame in enumerate(self.inbox):
            if frame['op'] in ops:
                return self.inbox.pop(i)
        while True:
            frame = await self.frame(timeout)
            if frame['op'] in ops:
                return frame
            assert frame['op'] != 'closed', f'{self.name} was disconnected while waiting for {ops}: {self.inbox}'
            self.inbox.append(frame)

    async def say(self, **frame):
        await self.over.send(frame)

    async def join(self, **frame):
        self.request += 1
        await self.say(op='join', id=self.request, **frame)
        return await self.hear('joined', 'error', 'redirect')

    async def drop(self):
        """The connection goes, and not a word about it."""
        transport = getattr(self.over, 'writer', None) or self.over.ws
        transport.transport.abort()
