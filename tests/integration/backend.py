"""A backend service as a process of its own, for tests: written from schemas/README.md alone.

Usage: backend.py NATS_URL SERVICE INSTANCE|- [PREFIX]. With `-` it is a plain member of a queue group that knows nothing of
instances. What it does is told by a request's data: {"do": "echo" | "sleep" | "block" | "fail" | "raw" | "big" | "ran" |
"silent", ...}; whatever it does, it first notes that it ran.
"""
import asyncio
import json
import os
import sys
import time

from watcher import Watcher


class Backend:
    def __init__(self, service, instance):
        self.service, self.instance, self.ran = service, instance, []

    async def slept(self, data):
        await asyncio.sleep(data['ms'] / 1000)
        return json.dumps({'slept': data['ms'], 'by': self.instance}).encode()

    def work(self, _, body):
        request = json.loads(body)
        data = request['data'] if isinstance(request['data'], dict) else {}
        do = data.get('do', 'echo')
        if do != 'ran':
            self.ran.append([request.get('session') or request.get('room'), request['id']])
        if do == 'echo':
            return json.dumps({'by': self.instance, 'at': len(self.ran), 'request': request}).encode()
        if do == 'sleep':
            return self.slept(data)
        if do == 'block':  # reads nothing meanwhile, not even pings
            time.sleep(data['ms'] / 1000)
            return b'{"slept":true}'
        if do == 'fail':
            return json.dumps({'error': data['error']}).encode()
        if do == 'raw':
            return data['text'].encode()
        if do == 'big':
            return json.dumps('x' * data['bytes']).encode()
        if do == 'ran':
            return json.dumps(self.ran).encode()
        return None

    def here(self, *_):
        return json.dumps({'service': self.service, 'instance': self.instance}).encode()


async def main():
    url, service, instance = sys.argv[1:4]
    prefix = sys.argv[4] + '.' if len(sys.argv) > 4 else ''
    backend = Backend(service, instance)
    async with Watcher(url) as nats:
        if instance == '-':
            nats.serve(f'{prefix}svc.{service}', backend.work, 'workers')
        else:
            nats.serve(f'{prefix}svc.{service}.all', backend.here)
            nats.serve(f'{prefix}svc.{service}.{instance}', backend.work)
        await nats.flush()
        print('ready', os.getpid(), flush=True)
        await nats.task


if __name__ == '__main__':
    asyncio.run(main())
