"""Sizes: files under 600 lines, functions under 70.

Decides what is too long to read at once. A brace scan, no parser: a function is a `{` at depth 0 that follows a `)`,
and its length counts from its name's line to its closing brace. Weak where a macro opens a body without parentheses.
Invariant: comments and literals never count as braces.
"""
import os
import re
import sys

from archlib import blank_out, c_files, expect, finish, read

FILE_LINES = 600
FUNCTION_LINES = 70
FOLDERS = ('src', 'include', 'tests', 'tools')
NAME = re.compile(r'(\w+)\s*\(')


def one_branch(text):
    """Drops preprocessor lines and all but the first branch of each #if, so that braces balance."""
    out, stack, joined = [], [], False
    for line in text.split('\n'):
        word = re.match(r'\s*#\s*(\w+)', line)
        directive = word.group(1) if word and not joined else None
        if directive in ('if', 'ifdef', 'ifndef'):
            stack.append(False)
        elif directive in ('else', 'elif') and stack:
            stack[-1] = True
        elif directive == 'endif' and stack:
            stack.pop()
        drop = directive is not None or joined or any(stack)
        joined = line.endswith('\\') and (directive is not None or joined)
        out.append('' if drop else line)
    return '\n'.join(out)


def functions(text):
    """(name, first line, last line) of each function body in one C file."""
    text = one_branch(blank_out(text))
    found, depth, start, head = [], 0, 0, ''
    for i, ch in enumerate(text):
        if ch == '{':
            if depth == 0:
                head = text[start:i]
                first = start
            depth += 1
        elif ch == '}':
            depth = max(0, depth - 1)
            if depth == 0:
                names = NAME.findall(head)
                if names and head.rstrip().endswith(')'):
                    line = text.count('\n', 0, first + len(head) - len(head.lstrip())) + 1
                    found.append((names[0], line, text.count('\n', 0, i) + 1))
                start = i + 1
        elif ch == ';' and depth == 0:
            start = i + 1
    return found


def check(top):
    breaches = []
    for folder in FOLDERS:
        for path in c_files(os.path.join(top, folder), ('.c', '.h', '.py')):
            text, shown = read(path), os.path.relpath(path, top)
            lines = text.count('\n')
            if lines >= FILE_LINES:
                breaches.append('%s:%d: file has %d lines, must stay under %d' % (shown, lines, lines, FILE_LINES))
            if path.endswith('.py'):
                continue
            for name, first, last in functions(text):
                if last - first + 1 >= FUNCTION_LINES:
                    breaches.append('%s:%d: %s() has %d lines, must stay under %d' % (
                        shown, first, name, last - first + 1, FUNCTION_LINES))
    return breaches


def self_test():
    body = 'static int f(int a)\n{\n%s}\n'
    long_body = body % ('    a++;\n' * 70)
    clean = [
        {'src/base/a.c': (body % ('    a++;\n' * 60)) * 3},
        {'src/base/a.c': 'static const int t[] = {\n' + '    1,\n' * 100 + '};\nint g(void)\n{\n    return \'{\';\n}\n'},
        {'src/base/a.c': '#ifdef X\nint f(int a) {\n#else\nint f(long a) {\n#endif\n}\n' + 'int x;\n' * 80},
    ]
    planted = [
        ({'src/base/a.c': 'int x;\n' * 600}, 'src/base/a.c:600: file has 600 lines'),
        ({'src/base/a.c': '/* { */ int x;\n' + long_body}, 'src/base/a.c:2: f() has 73 lines'),
        ({'tests/unit/a.c': 'Test(a, b)\n{\n' + '    x();\n' * 70 + '}\n'}, 'Test() has 73 lines'),
        ({'src/base/a.c': 'struct s {\n int a;\n};\n#define M(x) \\\n  {\n' + long_body}, 'f() has 73 lines'),
    ]
    return expect(check, clean, planted)


if __name__ == '__main__':
    finish(self_test() + check(sys.argv[1]))
