"""Layout: what may lie at the top of the tree.

Decides the fixed list; what is in the folders is theirs. Only files that git tracks count, where there is a git;
else all but hidden and build folders. Invariant: a new name at the top is a decision, made here.
"""
import os
import subprocess
import sys

from archlib import expect, finish

TOP = {
    '.ci', '.clang-format', '.editorconfig', '.gitattributes', '.gitignore', 'CHANGELOG.md', 'CONTRIBUTING.md',
    'LICENSE', 'NOTICE', 'README.md', 'SECURITY.md', 'bench', 'docs', 'examples', 'fuzz', 'include', 'meson.build',
    'meson_options.txt', 'packaging', 'schemas', 'src', 'tests', 'tools',
}
# Needed by everything; their absence means that the test looks at the wrong folder.
MUST = {'meson.build', 'src', 'tests'}


def names_at(top):
    if os.path.exists(os.path.join(top, '.git')):
        try:
            out = subprocess.run(['git', '-C', top, 'ls-files', '-z'], capture_output=True, check=True).stdout
            return {p.split('/')[0] for p in out.decode('utf-8', 'replace').split('\0') if p}
        except (OSError, subprocess.CalledProcessError):
            pass
    return {n for n in os.listdir(top) if not n.startswith('build') and (n in TOP or not n.startswith('.'))}


def check(top):
    names = names_at(top)
    return (['%s:1: not in the list of tests/arch/layout.py' % n for n in sorted(names - TOP)]
            + ['%s:1: missing' % n for n in sorted(MUST - names)])


def self_test():
    good = {'meson.build': '', 'src/a.c': '', 'tests/a.c': '', 'build/x': ''}
    return expect(check, [good], [(dict(good, **{'notes.txt': ''}), 'notes.txt:1'), ({'src/a.c': ''}, 'meson.build:1')])


if __name__ == '__main__':
    finish(self_test() + check(sys.argv[1]))
