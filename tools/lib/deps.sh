# Decides which Debian packages the build and the tests need, and installs those that are absent.
# Sourced by the scripts in tools/; call `deps_install [build|all]`. It must not know what is built.
# Invariant: says nothing and touches no network when everything is there already.
# shellcheck shell=bash

# "a|b" means: a where the distribution has it, else b (Debian 12 and 13 name msgpack's C flavour differently).
DEPS_BUILD=(gcc libc6-dev meson ninja-build pkg-config libuv1-dev libnats-dev 'libmsgpack-c-dev|libmsgpack-dev'
    liblmdb-dev libxxhash-dev libjansson-dev libgnutls28-dev uthash-dev libwslay-dev python3)
DEPS_TEST=(g++ libcriterion-dev python3-websockets python3-jsonschema python3-msgpack openssl procps)

deps_die() {
    printf 'deps: %s\n' "$*" >&2
    return 1
}

deps_have() {
    dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^.i' && return 0
    # A package of another name may provide it (pkg-config is a virtual name in some suites).
    dpkg-query -W -f='${db:Status-Abbrev}|, ${Provides},\n' 2>/dev/null |
        sed 's/ ([^)]*)//g' | grep '^.i' | grep -qF ", $1,"
}

# One line per wanted package of which no alternative is installed.
deps_missing() {
    local want alt found
    for want in "$@"; do
        found=no
        for alt in ${want//|/ }; do
            if deps_have "$alt"; then found=yes; break; fi
        done
        [ "$found" = yes ] || printf '%s\n' "$want"
    done
}

# The first alternative that this distribution can install.
deps_pick() {
    local alt candidate
    for alt in ${1//|/ }; do
        candidate=$(LC_ALL=C apt-cache policy "$alt" 2>/dev/null | sed -n 's/^  Candidate: //p')
        if [ -n "$candidate" ] && [ "$candidate" != '(none)' ]; then
            printf '%s\n' "$alt"
            return 0
        fi
    done
    deps_die "no package source of this machine has '$1'; check /etc/apt/sources.list(.d)"
}

deps_apt() {
    local log
    log=$(mktemp) || return 1
    if ! "${DEPS_SUDO[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

deps_install() {
    local want=("${DEPS_BUILD[@]}") missing=() names=() m name
    [ "${1:-all}" = build ] || want+=("${DEPS_TEST[@]}")
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        deps_die "this is not a Debian system; install the equivalents of: ${want[*]}"
        return 1
    fi
    mapfile -t missing < <(deps_missing "${want[@]}")
    [ "${#missing[@]}" -gt 0 ] || return 0

    DEPS_SUDO=()
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null || ! { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
            deps_die "missing packages, and neither root nor sudo to install them: ${missing[*]}"
            return 1
        fi
        DEPS_SUDO=(sudo)
    fi
    printf 'deps: installing %s\n' "${missing[*]}" >&2
    deps_apt update || { deps_die "apt-get update failed; is there a network?"; return 1; }
    for m in "${missing[@]}"; do
        name=$(deps_pick "$m") || return 1
        names+=("$name")
    done
    deps_apt install --no-install-recommends "${names[@]}" ||
        { deps_die "apt-get install failed: ${names[*]}"; return 1; }
}
