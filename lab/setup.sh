#!/bin/sh
# Puts on this machine what the project needs, and says what it installs.
#
#   lab/setup.sh python   Python's packages, at the locked versions, into .venv
#   lab/setup.sh lab      that, and the programs of the quick lab (Debian packages)
#   lab/setup.sh browser  the browser in which the tests look at reports
#   lab/setup.sh vagrant  that, and the programs of the Vagrant lab
#
# Takes a fraction of a second when nothing is missing. Needs root only where Debian packages are.
set -eu
cd "$(dirname "$0")/.."

# How each program is asked for, and the Debian package that has it.
LAB_PACKAGES="systemd-container mmdebstrap iproute2 openssh-client netcat-openbsd \
nftables apt-utils ca-certificates util-linux"
# The reports of drills are looked at in a browser; only the tests need it.
BROWSER_PACKAGES="chromium chromium-driver"
# That of vagrant-libvirt alone would bring a desktop's QEMU and no network for the machines.
VAGRANT_PACKAGES="vagrant vagrant-libvirt libvirt-daemon libvirt-daemon-system \
libvirt-daemon-driver-qemu libvirt-clients dnsmasq-base iptables ebtables dmidecode \
qemu-system-x86 qemu-utils fdisk e2fsprogs"

say() { printf 'setup: %s\n' "$*"; }

# install PACKAGE...: with apt, those that are missing.
install() {
    missing=
    for package in "$@"; do
        case $(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null) in
            ii*) ;;
            *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        say "missing:$missing; install them (as root: apt-get install$missing), then try again" >&2
        exit 1
    fi
    say "installing Debian packages:$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt="apt-get -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 install"
    # The package lists may be missing or too old to find what they name.
    # shellcheck disable=SC2086
    $apt $missing 2>/dev/null || { say "reading the package lists anew"; apt-get -qq update; $apt $missing; }
}

# The first Python that is new enough. The system's own first: its venv module can be installed.
find_python() {
    for candidate in /usr/bin/python3 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

make_venv() {
    # With the place: a .venv cannot be moved.
    want="$(sha256sum < requirements-dev.lock) $PWD"
    if [ -x .venv/bin/python ] && [ "$(cat .venv/lock 2>/dev/null)" = "$want" ]; then
        return
    fi
    python=$(find_python)
    if [ -z "$python" ]; then
        install python3
        python=$(find_python)
    fi
    if [ -z "$python" ]; then
        say "no Python 3.11 or newer here: this needs Debian 12 or newer" >&2
        exit 1
    fi
    "$python" -c 'import venv, ensurepip' 2>/dev/null || install python3-venv
    say "making .venv with $("$python" --version), at the versions of requirements-dev.lock"
    "$python" -m venv --clear .venv
    .venv/bin/pip --quiet --disable-pip-version-check install \
        --require-hashes --no-deps --requirement requirements-dev.lock
    # Last: until it is there, the next run starts over.
    printf '%s\n' "$want" > .venv/lock
}

# shellcheck disable=SC2086  # lists of packages: each word is one
case ${1:-} in
    python) make_venv ;;
    lab) install $LAB_PACKAGES; make_venv ;;
    browser) install $BROWSER_PACKAGES ;;
    vagrant) install $LAB_PACKAGES $VAGRANT_PACKAGES; make_venv ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
