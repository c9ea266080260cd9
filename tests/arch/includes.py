"""Include direction: lower folders of src/ know nothing of higher ones.

Decides which folder may include which (DESIGN section 4). It reads `#include "folder/..."` only: system headers are
the build's business. Invariant: a folder that is not in the table is a breach, so that nobody adds one unseen.
"""
import os
import re
import sys

from archlib import blank_out, c_files, expect, finish, read

MAY_USE = {
    'base': set(),
    'wire': {'base'},
    'port': {'base'},
    'core': {'base', 'wire'},
    'room': {'core', 'base', 'wire', 'port'},
    'login': {'base'},
    'node': {'core', 'room', 'login', 'port', 'wire', 'base'},
    'bus': {'port', 'base', 'wire'},
    'store': {'port', 'base'},
    'gate': {'base', 'port', 'wire'},
    'admin': {'room', 'core', 'base', 'port', 'wire'},
    'client': {'base', 'wire'},
    'roomctl': {'base', 'wire', 'bus', 'port'},
    'roomd': None,      # all
}
PUBLIC = {'room'}       # include/room/*.h is reached as "room/x.h" from every folder
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.M)


def check(top):
    breaches = []
    src = os.path.join(top, 'src')
    for path in c_files(src):
        shown = os.path.relpath(path, top)
        parts = os.path.relpath(path, src).split(os.sep)
        folder = parts[0] if len(parts) > 1 else ''
        if folder not in MAY_USE:
            breaches.append('%s:1: folder %r is not in the table of tests/arch/includes.py' % (shown, folder))
            continue
        text = blank_out(read(path), keep_strings=True)
        for m in INCLUDE.finditer(text):
            name = m.group(1)
            target = name.split('/')[0]
            line = text.count('\n', 0, m.start(1)) + 1
            where = '%s:%d: ' % (shown, line)
            if '/' not in name or name.startswith('.'):
                breaches.append('%sinclude "%s" is not written from the root' % (where, name))
            elif target in PUBLIC and os.path.exists(os.path.join(top, 'include', name)):
                continue
            elif target == folder or MAY_USE[folder] is None:
                continue
            elif target not in MAY_USE[folder]:
                breaches.append('%s%s/ may not include "%s" (may use: %s)' % (
                    where, folder, name, ', '.join(sorted(MAY_USE[folder])) or 'nothing'))
    for path in c_files(os.path.join(top, 'include')):
        text = blank_out(read(path), keep_strings=True)
        for m in INCLUDE.finditer(text):
            if not os.path.exists(os.path.join(top, 'include', m.group(1))):
                line = text.count('\n', 0, m.start(1)) + 1
                breaches.append('%s:%d: a public header may not include "%s"' % (
                    os.path.relpath(path, top), line, m.group(1)))
    return breaches


def self_test():
    clean = [{
        'src/core/a.c': '#include "core/a.h"\n#include "base/b.h"\n// #include "bus/x.h"\n/*\n#include "bus/x.h"\n*/\n',
        'src/base/e.h': '#include "room/error.h"\n',
        'src/roomd/main.c': '#include "gate/g.h"\n#include "bus/b.h"\n',
        'include/room/error.h': '#include <stdint.h>\n'}]
    planted = [
        ({'src/core/a.c': '\n#include "bus/nats.h"\n'}, 'src/core/a.c:2: core/ may not include'),
        ({'src/base/a.c': '#  include "room/host.h"\n'}, 'src/base/a.c:1: base/ may not include'),
        ({'src/gate/a.c': '#include "room/host.h"\n', 'include/room/error.h': ''}, 'gate/ may not include'),
        ({'src/base/a.c': '#include "a.h"\n'}, 'not written from the root'),
        ({'src/extra/a.c': ''}, "folder 'extra' is not in the table"),
        ({'include/room/x.h': '#include "base/buf.h"\n'}, 'a public header may not include'),
    ]
    return expect(check, clean, planted)


if __name__ == '__main__':
    finish(self_test() + check(sys.argv[1]))
