"""Public headers: each of include/room/ compiles alone, as C11 and (where there is a C++ compiler) as C++17.

Decides nothing but that a user can include any of them first. Usage: headers.py ROOT CC [CXX].
Invariant: only include/ is on the search path, so that no private header leaks into a public one.
"""
import os
import subprocess
import sys

from archlib import c_files, expect, finish

FLAGS = ['-fsyntax-only', '-Wall', '-Wextra', '-Werror', '-pedantic']


def check_with(top, cc, cxx):
    breaches = []
    include = os.path.join(top, 'include')
    for path in c_files(include, ('.h',)):
        name = os.path.relpath(path, include)
        runs = [(cc, 'c', 'c11')] + ([(cxx, 'c++', 'c++17')] if cxx else [])
        for compiler, language, std in runs:
            # Twice: the guard is part of what must work.
            text = '#include <%s>\n#include <%s>\nextern int only_to_have_a_declaration;\n' % (name, name)
            run = subprocess.run(compiler.split() + FLAGS + ['-x', language, '-std=' + std, '-I', include, '-'],
                                 input=text, capture_output=True, text=True)
            if run.returncode != 0:
                first = next((l for l in run.stderr.splitlines() if 'error' in l), run.stderr.strip())
                breaches.append('%s:1: does not compile alone as %s: %s' % (os.path.relpath(path, top), std, first))
    return breaches


def self_test(cc, cxx):
    good = {'include/room/a.h': '#ifndef A_H\n#define A_H\n#include <stdint.h>\nstruct a {\n    uint8_t b;\n};\n#endif\n'}
    planted = [
        ({'include/room/a.h': 'uint8_t f(void);\n'}, 'include/room/a.h:1: does not compile alone as c11'),
        ({'include/room/a.h': 'struct a {\n    int b;\n};\n'}, 'does not compile alone as c11'),
        ({'include/room/a.h': '#include "base/buf.h"\n'}, 'does not compile alone as c11'),
    ]
    if cxx:
        planted.append(({'include/room/a.h': 'int f(int class);\n'}, 'does not compile alone as c++17'))
    return expect(lambda top: check_with(top, cc, cxx), [good], planted)


if __name__ == '__main__':
    cc, cxx = sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ''
    finish(self_test(cc, cxx) + check_with(sys.argv[1], cc, cxx))
