"""Symbols: the archives of core/ and wire/ call no clock, libc allocator, thread, uv, nats or stdio.

Decides by an allow list what pure code may call outside itself, read from `nm` on the built archives. It must not
know the sources. Usage: symbols.py BUILD_ROOT CC. Exit code 77 (skipped) only where neither archive is built.
Invariant: what is not on a list is a breach; libc grows, so a list of forbidden names would not hold.
"""
import os
import re
import subprocess
import sys
import tempfile

from archlib import finish

LIBC = re.compile(r'^(__)?('
                  r'mem(cpy|move|set|cmp|chr|rchr|mem|pcpy)|explicit_bzero|bcmp|'
                  r'str(n?len|n?cmp|n?casecmp|n?cpy|r?chr|chrnul|c?spn|pbrk|str|lcpy|lcat|to(l|ll|ul|ull|d)|error_r)|'
                  r'stpn?cpy|v?snprintf|qsort(_r)?|bsearch|l?l?abs|isoc(99|23)_strto(l|ll|ul|ull)|'
                  r'ctype_b_loc|ctype_tolower_loc|ctype_toupper_loc|tolower|toupper|gmtime_r|timegm|[hn]to[hn][sl]|'
                  r'f?(min|max)f?|(log|log2|exp|exp2|pow|sqrt|floor|ceil|round|l?lround|trunc|fmod|fabs|ldexp|frexp)f?|'
                  r'isnanf?|isinff?|finitef?|fpclassify|signbit'
                  r')(_chk)?$')
COMPILER = re.compile(r'^(_GLOBAL_OFFSET_TABLE_|__stack_chk_fail|__(asan|ubsan|tsan|sanitizer|gcov|lsan)_\w+|'
                      r'__popcount\w*|__(u?div|u?mod)[td]i[34]|__sanitizer_\w+|__llvm_\w+|__errno_location)$')
EXTRA = {'core': re.compile(r'^XXH\w+$'), 'wire': re.compile(r'^(XXH\w+|msgpack_\w+|json_\w+|hashtable_\w+)$')}
# Ours, yet a door to what is forbidden.
DOORS = re.compile(r'^(time_(mono|wall)_now|alloc_libc|rng_secret|log_(setup|write))$')


def symbols(archive, option):
    """Names per member: `nm -P` prints `lib.a[member.o]:` lines and `name type ...` lines."""
    run = subprocess.run(['nm', '-P', option, archive], capture_output=True, text=True, check=True)
    member, found = '?', []
    for line in run.stdout.splitlines():
        if line.endswith(':'):
            member = line[:-1].split('[')[-1].rstrip(']').split('/')[-1]
        elif line.strip():
            found.append((member, line.split()[0].split('@')[0]))
    return found


def defined_in(archives):
    return {name for a in archives for _, name in symbols(a, '--defined-only')}


def check(folder, archive, own):
    """own: names that the lower archives and this one define."""
    breaches = []
    for member, name in sorted(set(symbols(archive, '-u'))):
        if DOORS.match(name):
            breaches.append('%s: %s/ may not call %s: it leads to a clock, a log, random or the libc allocator' % (
                member, folder, name))
        elif not (name in own or LIBC.match(name) or COMPILER.match(name) or EXTRA[folder].match(name)):
            breaches.append('%s: %s/ may not call %s' % (member, folder, name))
    return breaches


def archive_of(build, folder):
    path = os.path.join(build, 'src', folder, 'lib%s.a' % folder)
    return path if os.path.exists(path) else None


def compile_archive(top, cc, text):
    source, obj, lib = (os.path.join(top, n) for n in ('planted.c', 'planted.o', 'libplanted.a'))
    with open(source, 'w', encoding='utf-8') as f:
        f.write(text)
    subprocess.run(cc.split() + ['-D_GNU_SOURCE', '-std=c11', '-c', '-o', obj, source], check=True)
    if os.path.exists(lib):
        os.remove(lib)
    subprocess.run(['ar', 'rcs', lib, obj], check=True)
    return lib


def self_test(cc):
    bad = []
    planted = [
        ('#include <stdlib.h>\nvoid *f(unsigned long n) { return malloc(n); }', 'malloc'),
        ('#include <time.h>\nint f(struct timespec *t) { return clock_gettime(CLOCK_MONOTONIC, t); }', 'clock_gettime'),
        ('#include <stdio.h>\nint f(const char *s) { return puts(s); }', 'puts'),
        ('int uv_run(void *, int);\nint f(void) { return uv_run(0, 0); }', 'uv_run'),
        ('int natsConnection_Flush(void *);\nint f(void) { return natsConnection_Flush(0); }', 'natsConnection_Flush'),
        ('int pthread_mutex_lock(void *);\nint f(void *m) { return pthread_mutex_lock(m); }', 'pthread_mutex_lock'),
        ('long time_mono_now(void);\nlong f(void) { return time_mono_now(); }', 'time_mono_now'),
    ]
    with tempfile.TemporaryDirectory() as top:
        lib = compile_archive(top, cc, '#include <string.h>\nint g(void);\nunsigned long f(const char *s)'
                                       ' { return strlen(s) + (unsigned long)g(); }')
        bad += ['self-test: a clean archive is called bad: ' + b for b in check('core', lib, {'g'})]
        for text, name in planted:
            # `time_mono_now` is ours and still forbidden: being defined below is no excuse for a door.
            found = check('core', compile_archive(top, cc, text), {'time_mono_now'})
            if not any(name in b for b in found):
                bad.append('self-test: planted call not found: %s (got %r)' % (name, found))
    return bad


def main():
    build, cc = sys.argv[1], sys.argv[2]
    breaches = self_test(cc)
    lower = [a for a in (archive_of(build, f) for f in ('base', 'wire')) if a]
    seen = 0
    for folder in ('wire', 'core'):
        archive = archive_of(build, folder)
        if archive:
            seen += 1
            breaches += check(folder, archive, defined_in(lower + [archive]))
    if not breaches and seen == 0:
        print('neither the core nor the wire archive is built')
        sys.exit(77)
    finish(breaches)


if __name__ == '__main__':
    main()
