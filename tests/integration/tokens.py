"""Makes keys and tokens as a studio's own login service would: HS256 with the standard library, Ed25519 with openssl.

Decides nothing about roomd, and shares no code with it.
"""
import base64
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import time


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b'=').decode()


class Hs256:
    def __init__(self, kid):
        self.kid, self.alg, self.secret = kid, 'HS256', secrets.token_bytes(32)

    def jwk(self):
        return dict(kty='oct', kid=self.kid, alg=self.alg, k=b64(self.secret))

    def sign(self, data):
        return hmac.new(self.secret, data, hashlib.sha256).digest()


class Ed25519:
    def __init__(self, kid, folder):
        self.kid, self.alg, self.path = kid, 'EdDSA', os.path.join(folder, kid + '.pem')
        subprocess.run(['openssl', 'genpkey', '-algorithm', 'ed25519', '-out', self.path], check=True, capture_output=True)

    def jwk(self):
        der = subprocess.run(['openssl', 'pkey', '-in', self.path, '-pubout', '-outform', 'DER'], check=True,
                             capture_output=True).stdout
        return dict(kty='OKP', crv='Ed25519', kid=self.kid, x=b64(der[-32:]))

    def sign(self, data):
        with open(self.path + '.data', 'wb') as f:
            f.write(data)
        return subprocess.run(['openssl', 'pkeyutl', '-sign', '-rawin', '-inkey', self.path, '-in', f.name], check=True,
                              capture_output=True).stdout


def token(key, player, lasts_s=600, header=(), **claims):
    """A token of this player; `header` and `claims` overrule or add, None leaves out."""
    def part(given):
        return b64(json.dumps({k: v for k, v in given.items() if v is not None}).encode())
    head = part({'alg': key.alg, 'typ': 'JWT', 'kid': key.kid, **dict(header)})
    body = part({'sub': player, 'exp': int(time.time()) + lasts_s, **claims})
    return f'{head}.{body}.' + b64(key.sign(f'{head}.{body}'.encode()))


def write_keys(path, *keys):
    """As one must while nodes read it: a whole file takes the place of the other."""
    with open(path + '.new', 'w', encoding='ascii') as f:
        json.dump({'keys': [k.jwk() for k in keys]}, f)
    os.replace(path + '.new', path)
