"""What the architecture tests share: C source reading and the way to report.

Decides how a breach looks on the screen; must not know any rule. Standard library only.
Invariant: a test exits 0 with nothing breached, 1 with each breach on a line `file:line: text`.
"""
import os
import re
import sys
import tempfile

_TOKENS = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def c_files(top, endings=('.c', '.h')):
    """All C files under top, sorted, without build folders."""
    found = []
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(f for f in folders if not f.startswith('.'))
        found += [os.path.join(folder, n) for n in sorted(names) if n.endswith(endings)]
    return found


def read(path):
    with open(path, encoding='utf-8', errors='replace') as f:
        return f.read()


def blank_out(text, keep_strings=False):
    """The same text with comments (and literals) replaced by blanks; newlines stay, so line numbers hold."""
    def blank(m):
        if keep_strings and m.group(0)[0] in '"\'':
            return m.group(0)
        return re.sub(r'[^\n]', ' ', m.group(0))
    return _TOKENS.sub(blank, text)


def write_tree(top, files):
    for name, text in files.items():
        path = os.path.join(top, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as f:
            f.write(text)


def expect(check, clean, planted):
    """The test of the test: `clean` trees give no breach; each planted (files, words) gives one that has the words."""
    bad = []
    for files in clean:
        with tempfile.TemporaryDirectory() as top:
            write_tree(top, files)
            bad += ['self-test: a clean tree is called bad: ' + b for b in check(top)]
    for files, words in planted:
        with tempfile.TemporaryDirectory() as top:
            write_tree(top, files)
            found = check(top)
            if not any(words in b for b in found):
                bad.append('self-test: planted breach not found: %r (got %r)' % (words, found))
    return bad


def finish(breaches):
    for b in breaches:
        print(b)
    sys.exit(1 if breaches else 0)
