"""A NATS client of some lines, for tests that look at subjects as a stranger would: subscribe, request, read a bucket.

Decides nothing about roomd. It speaks the published text protocol of NATS, so that the tests share no code with the nodes.
"""
import asyncio
import base64
import json
import time


class Watcher:
    def __init__(self, url):
        self.host, self.port = url.split('//')[1].split(':')
        self.heard, self.replies, self.sid, self.served, self.work, self.pong = [], {}, 0, {}, set(), None

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(self.host, int(self.port))
        await self.reader.readline()
        self.writer.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nPING\r\n')
        self.task = asyncio.create_task(self.read())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        self.writer.close()

    async def read(self):
        while line := await self.reader.readline():
            words = line.decode().split()
            if not words:
                continue
            if words[0] == 'PING':
                self.writer.write(b'PONG\r\n')
            elif words[0] == 'PONG' and self.pong and not self.pong.done():
                self.pong.set_result(None)
            elif words[0] in ('MSG', 'HMSG'):
                body = (await self.reader.readexactly(int(words[-1]) + 2))[:-2]
                if words[0] == 'HMSG':
                    body = body[int(words[-2]):]
                waiting = self.replies.pop(words[1], None)
                reply = words[3] if len(words) > (4 if words[0] == 'MSG' else 5) else ''
                if waiting:
                    if not waiting.done():  # else nobody waits for it any more
                        waiting.set_result(body)
                elif words[2] in self.served:
                    self.run(self.served[words[2]](words[1], body), reply)
                else:
                    self.heard.append((time.monotonic(), words[1], body))

    def subscribe(self, subject, group=''):
        self.sid += 1
        self.writer.write(f'SUB {subject} {group} {self.sid}\r\n'.encode())

    def serve(self, subject, handler, group=''):
        """Answers what comes on the subject: handler(subject, body) gives the reply's bytes, None for none, or a coroutine."""
        self.subscribe(subject, group)
        self.served[str(self.sid)] = handler

    def run(self, answer, reply):
        async def later():
            body = await answer
            if body is not None:
                self.publish(reply, body)
        if asyncio.iscoroutine(answer):
            task = asyncio.ensure_future(later())
            self.work.add(task)
            task.add_done_callback(self.work.discard)
        elif answer is not None and reply:
            self.publish(reply, answer)

    async def flush(self):
        """All that was said has reached the server."""
        self.pong = asyncio.get_running_loop().create_future()
        self.writer.write(b'PING\r\n')
        await self.pong

    async def request(self, subject, body=b'', timeout=2):
        inbox = f'_test.{id(self)}.{self.sid + 1}'
        self.subscribe(inbox)
        future = asyncio.get_running_loop().create_future()
        self.replies[inbox] = future
        self.writer.write(f'PUB {subject} {inbox} {len(body)}\r\n'.encode() + body + b'\r\n')
        return await asyncio.wait_for(future, timeout)

    def publish(self, subject, body, reply=''):
        self.writer.write(f'PUB {subject} {reply} {len(body)}\r\n'.encode() + body + b'\r\n')

    def delete(self, bucket, key):
        header = b'NATS/1.0\r\nKV-Operation: DEL\r\n\r\n'
        self.writer.write(f'HPUB $KV.{bucket}.{key} {len(header)} {len(header)}\r\n'.encode() + header + b'\r\n')

    async def ctl(self, server, /, wait_s=2, **request):
        return json.loads(await self.request(f"server.{server}.ctl", json.dumps(request).encode(), wait_s))

    async def kv(self, bucket, key):
        """The value of a key as (revision, JSON), read from the stream's leader; None when there is none."""
        ask = json.dumps({'last_by_subj': f'$KV.{bucket}.{key}'}).encode()
        answer = json.loads(await self.request(f'$JS.API.STREAM.MSG.GET.KV_{bucket}', ask))
        found = answer.get('message')
        if not found or not found.get('data'):
            return None
        return found['seq'], json.loads(base64.b64decode(found['data']))

    async def keys(self, bucket):
        """Every key that was written, deleted ones included."""
        answer = json.loads(await self.request(f'$JS.API.STREAM.INFO.KV_{bucket}', b'{"subjects_filter":">"}'))
        return [s.split('.', 2)[2] for s in answer['state'].get('subjects') or {}]

    async def values(self, bucket):
        """All live entries: {key: JSON}."""
        found = {key: await self.kv(bucket, key) for key in await self.keys(bucket)}
        return {key: value[1] for key, value in found.items() if value}

    def events(self, subject):
        return [(at, json.loads(body)) for at, s, body in self.heard if s == subject]
