"""What roomd makes of its options: one table for flags, environment and config file; what is unknown is refused by name,
what is wrong is told with what would be right. That each option does something is options_work.py. Usage: options.py ROOMD"""
import os
import re
import subprocess
import sys
import tempfile

ROOMD = sys.argv[1]
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith('ROOMD_') and k != 'CLUSTER_ENABLED'}

# A value other than the default for each option, and how --print-config shows it where that differs.
VALUES = {
    'server-id': 'node-x', 'listen': '127.0.0.1:7999', 'advertise': 'play.example.com:7400', 'standalone': 'true',
    'nats': 'nats://n1:4222', 'creds': '/dev/null', 'tls-ca': '/dev/null', 'tls-cert': '/dev/null', 'tls-key': '/dev/null',
    'prefix': 'blue', 'replicas': '3', 'region': 'north', 'capacity': '17', 'room-type': './dice.so',
    'type': 'duel=relay,max_players=2', 'route': 'profile=users,to=all', 'queue': 'duo=duel,size=2',
    'service-hook': './audit.so', 'rate-requests': '9', 'strategy': 'two-choices', 'prefer-local': 'true',
    'routing': 'relay', 'login-policy': 'reject',
    'heartbeat-interval': ('2s', '2000ms'), 'server-ttl': ('1m', '60000ms'), 'room-ttl': ('0', '0ms'),
    'seat-ttl': ('1500ms', '1500ms'), 'hello-timeout': ('3s', '3000ms'), 'idle-timeout': ('5m', '300000ms'),
    'max-connections': '7', 'max-connections-per-address': '3', 'max-frame': '1024', 'send-queue': '70000',
    'data-dir': '/tmp/some where', 'snapshot-interval': '7000ms', 'snapshot-ttl': '60000ms', 'failover': 'off', 'grace': '9000ms',
    'drain-timeout': '8000ms', 'token-keys': '/dev/null', 'token-audience': 'my game', 'token-leeway': '7000ms',
    'insecure-no-login': 'true', 'admin': '127.0.0.1:7480', 'admin-token-file': '/dev/null', 'inbox-messages': '9',
    'inbox-bytes': '70000', 'inbox-ttl': '3000ms',
    'room-memory': '100000', 'rooms-per-session': '4', 'log-level': 'debug', 'log-format': 'json',
}


def roomd(*args, **environ):
    """Runs it to its end. Nothing here may start a node, so the end comes at once."""
    return subprocess.run([ROOMD, *args], env={**CLEAN, **environ}, capture_output=True, text=True, timeout=60)


def environ_name(name):
    return 'ROOMD_' + name.upper().replace('-', '_')


def table():
    """{option: (placeholder, environment name)} as --help has it."""
    done = roomd('--help')
    assert done.returncode == 0 and not done.stderr, done
    rows = re.findall(r'^  --([a-z-]+) (.+)\n      .+\[(ROOMD_[A-Z_]+)\]$', done.stdout, re.M)
    options = {name: (value, environ) for name, value, environ in rows if name != 'config'}
    assert len(options) == len(rows) - 1, 'an option twice'
    return options


def refused(done, *words):
    assert done.returncode == 2, done
    assert done.stderr.startswith('roomd: ') and done.stderr.count('\n') == 1 and not done.stdout, done
    for word in words:
        assert word in done.stderr, (word, done.stderr)


def help_and_print_config():
    options = table()
    assert set(options) == set(VALUES), set(options) ^ set(VALUES)
    for name, (_, environ) in options.items():
        assert environ == environ_name(name)
    printed = roomd('--print-config')
    assert printed.returncode == 0, printed
    listed = re.findall(r'^(?:# )?([a-z-]+) = ', printed.stdout, re.M)
    assert listed == list(options), (listed, list(options))
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as f:
        f.write(printed.stdout)
        f.flush()
        assert roomd('--config', f.name, '--print-config').stdout == printed.stdout, 'its own output was not read back'
    assert roomd('--version').stdout.startswith('roomd ')


def each_source_sets_each_option():
    """All options at once, each by a value that is not its default: as flags in both spellings, file and environment."""
    given = {name: value[0] if isinstance(value, tuple) else value for name, value in VALUES.items()}
    shown = [f'{name} = {value[1] if isinstance(value, tuple) else value}' for name, value in VALUES.items()]
    default = roomd('--print-config').stdout.splitlines()
    assert not set(shown) & set(default), 'a value that is the default shows nothing'
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as f:
        f.write('# a comment\n\n' + ''.join(f'  {name}={value}  \n' for name, value in given.items()))
        f.flush()
        spaced = [word for name, value in given.items() if value != 'true' for word in (f'--{name}', value)]
        for done in (roomd('--print-config', *(f'--{name}={value}' for name, value in given.items())),
                     roomd('--print-config', *spaced, '--standalone', '--prefer-local',
                           '--insecure-no-login'),
                     roomd('--print-config', '--config', f.name), roomd('--print-config', ROOMD_CONFIG=f.name),
                     roomd('--print-config', **{environ_name(name): value for name, value in given.items()})):
            assert done.returncode == 0 and sorted(done.stdout.splitlines()) == sorted(shown), done
    assert 'standalone = true' in roomd('--print-config', '--standalone').stdout
    assert 'standalone = true' in roomd('--print-config', CLUSTER_ENABLED='false').stdout
    assert 'standalone = false' in roomd('--print-config', CLUSTER_ENABLED='true').stdout


def precedence():
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as f:
        f.write('capacity = 1\nregion = file\nstandalone = true\ntype = a=relay\n')
        f.flush()
        both = roomd('--print-config', '--config', f.name, ROOMD_CAPACITY='2', ROOMD_REGION='environment',
                     ROOMD_STANDALONE='false', ROOMD_TYPE='b=relay').stdout
        for line in ('capacity = 2', 'region = environment', 'standalone = false'):
            assert line in both.splitlines(), (line, both)
        three = roomd('--print-config', '--capacity', '3', '--config', f.name, '--standalone', '--type', 'c=relay',
                      ROOMD_CAPACITY='2', ROOMD_STANDALONE='false', ROOMD_TYPE='b=relay').stdout
        for line in ('capacity = 3', 'standalone = true', 'region = file'):
            assert line in three.splitlines(), (line, three)
        assert [x for x in three.splitlines() if x.startswith('type')] == ['type = a=relay', 'type = b=relay',
                                                                         'type = c=relay'], three


def unknown_is_refused_by_name():
    refused(roomd('--colour', 'red'), "unknown option '--colour'", '--help')
    refused(roomd('standalone'), "unknown option 'standalone'")
    refused(roomd('--standalone', 'true'), "unknown option 'true'")
    refused(roomd('--capacit', '3'), "unknown option '--capacit'")
    refused(roomd(ROOMD_COLOUR='red'), "unknown environment variable 'ROOMD_COLOUR'", '--help')
    refused(roomd(ROOMD_CAPACITYX='3'), "unknown environment variable 'ROOMD_CAPACITYX'")
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as f:
        f.write('capacity = 3\n\ncolour = red\n')
        f.flush()
        refused(roomd('--config', f.name), f"{f.name}:3: unknown key 'colour'", '--print-config')
        f.seek(0)
        f.truncate()
        f.write('capacity 3\n')
        f.flush()
        refused(roomd('--config', f.name), f'{f.name}:1: wanted key = value')
    refused(roomd('--config', '/nowhere/roomd.conf'), "'/nowhere/roomd.conf'", 'No such file')
    refused(roomd('--capacity'), '--capacity needs a value')
    refused(roomd('--config'), '--config needs a value')


def bad_values_say_what_is_allowed():
    for name, (placeholder, environ) in table().items():
        if placeholder == 'true|false':
            wrong = {'maybe': 'wanted true or false'}
        elif '|' in placeholder:
            wrong = {word: f'wanted {placeholder}' for word in ('blue', '', placeholder.split('|')[1] + 'x', placeholder)}
        elif placeholder == 'N':
            wrong = {'many': 'wanted a whole number', '': 'wanted a whole number', '3x': 'wanted a whole number',
                     '-1': 'wanted ', '99999999999': ' to ', '9' * 30: 'wanted '}
        elif placeholder == 'TIME':
            wrong = {'soon': 'wanted a time like 500ms, 5s or 2m', '-1s': 'wanted a time', '5h': 'wanted a time',
                     '99999m': 'wanted '}
        else:
            wrong = {'x' * 600: 'longer than 511 characters'}
        for value, text in wrong.items():
            quoted = [] if len(value) > 500 else [f"'{value[:100]}'"]
            refused(roomd(f'--{name}={value}'), 'command line: ', f'--{name}', text, *quoted)
        value, text = next(iter(wrong.items()))
        refused(roomd(**{environ: value}), f'{environ}: ', f'--{name}', text)
    for args, words in ((['--creds', '/nowhere/x'], ("--creds is '/nowhere/x'", 'No such file')),
                        (['--tls-ca', '/nowhere/x'], ("--tls-ca is '/nowhere/x'", 'No such file')),
                        (['--token-keys', '/nowhere/x'], ("--token-keys is '/nowhere/x'", 'No such file')),
                        (['--tls-cert', '/dev/null'], ('--tls-cert and --tls-key belong together',)),
                        (['--tls-key', '/dev/null'], ('--tls-cert and --tls-key belong together',)),
                        (['--heartbeat-interval', '20s'], ('--heartbeat-interval', 'half of --server-ttl'))):
        refused(roomd(*args), *words)
    refused(roomd(*(f'--type=t{i}=relay' for i in range(33))), 'at most 32 --type')
    refused(roomd(*(f'--route=r{i}=users' for i in range(257))), 'at most 256 --route')


def what_only_the_start_finds_out():
    """These are seen when the option is used; the exit code is 1 and the words name option and value."""
    here = ['--standalone', '--listen', '127.0.0.1:0']
    for args, words in ((['--listen', 'localhost'], ("--listen is 'localhost'", 'HOST:PORT')),
                        (['--listen', '127.0.0.1:99999'], ('--listen is', 'HOST:PORT')),
                        (['--listen', 'example.com:1'], ("'example.com'", 'not an IPv4 or IPv6 address')),
                        (['--listen', '0.0.0.0:0'], ('--listen 0.0.0.0 ', '--token-keys FILE', '--insecure-no-login')),
                        (['--listen', '[::]:0'], ('--listen :: ', '--token-keys FILE', '--insecure-no-login')),
                        (['--listen', '128.0.0.1:0'], ('--listen 128.0.0.1 ', '--token-keys FILE')),
                        (['--token-keys', __file__, '--insecure-no-login'], ('--token-keys', '--insecure-no-login')),
                        (['--token-audience', 'x'], ('--token-audience is of no use without --token-keys',)),
                        (['--token-keys', __file__], (f"key file '{__file__}'", 'line 1')),
                        (['--advertise', 'play'], ("--advertise is 'play'", 'HOST:PORT')),
                        (['--server-id', 'a.b'], ("--server-id is 'a.b'", 'A-Z a-z 0-9 _ -')),
                        (['--server-id', 'all'], ("--server-id is 'all'", "not 'all'")),
                        (['--region', 'r' * 65], ('--region is longer than 64',)),
                        (['--type', 'duel'], ("'duel'", 'NAME=TYPE')),
                        (['--type', 'duel=chess'], ("to be a 'chess', but there is no such room type",)),
                        (['--type', 'duel=relay,max_players=0'], ("max_players='0' is not a number in 1..10000",)),
                        (['--type', 'duel=relay,seats=2'], ("unknown option 'seats'", 'known are max_players')),
                        (['--type', 'duel=relay,private=1'], ("private='1' is neither true nor false",)),
                        (['--type', 'duel=relay,durability=safe'], ("durability='safe' is none of none, snapshot, journal",)),
                        (['--room-type', '/nowhere/x.so'], ("'/nowhere/x.so'", 'No such file')),
                        (['--standalone=false', '--prefix', 'a.b'], ("prefix 'a.b'", 'A-Z a-z 0-9 _ -')),
                        (['--standalone=false', '--nats', 'nats://127.0.0.1:1'],
                         ("cannot reach NATS at 'nats://127.0.0.1:1'", 'nats-server -js', '--nats'))):
        done = roomd(*here, *args)
        assert done.returncode == 1 and not done.stdout, done
        last = done.stderr.splitlines()[-1]
        assert last.startswith('roomd: '), done
        for word in words:
            assert word in last, (word, last)


def main():
    for scene in (help_and_print_config, each_source_sets_each_option, precedence, unknown_is_refused_by_name,
                  bad_values_say_what_is_allowed, what_only_the_start_finds_out):
        scene()
        print('ok', scene.__name__, flush=True)


if __name__ == '__main__':
    main()
