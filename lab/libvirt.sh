#!/bin/sh
# libvirt on a machine whose init is not systemd, for as long as the Vagrant lab is up.
#
#   lab/libvirt.sh start   starts its daemons, unless something else runs them
#   lab/libvirt.sh stop    ends those that `start` started, and no others
set -eu

RUN=/run/kea-ha-lab/libvirt
export RUN

answers() { virsh --quiet --connect qemu:///system version >/dev/null 2>&1; }

start() {
    [ ! -d /run/systemd/system ] || return 0
    ! answers || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "lab: libvirt is not running, and starting it takes root" >&2
        exit 1
    fi
    echo "lab: starting libvirt, which ends with the last machine of the Vagrant lab"
    mkdir -p "$RUN/cache"
    # As root, QEMU can open /dev/kvm whatever its mode. Where its usual user cannot, libvirt probes
    # QEMU anew at each question, which makes minutes of seconds. The machine's own configuration and
    # cache stay as they are: these are laid over them for these daemons alone.
    printf 'user = "root"\ngroup = "root"\n' > "$RUN/qemu.conf"
    virtlogd --daemon --pid-file "$RUN/virtlogd.pid"
    # shellcheck disable=SC2016
    unshare --mount sh -c '
        mount --bind "$RUN/qemu.conf" /etc/libvirt/qemu.conf
        mount --bind "$RUN/cache" /var/cache/libvirt/qemu
        exec libvirtd --daemon --pid-file "$RUN/libvirtd.pid"'
    tries=0
    until answers; do
        tries=$((tries + 1))
        if [ $tries -gt 100 ]; then
            echo "lab: libvirt was started and does not answer after 20 s: see /var/log/libvirt" >&2
            exit 1
        fi
        sleep 0.2
    done
}

stop() {
    for name in libvirtd virtlogd; do
        pid=$(cat "$RUN/$name.pid" 2>/dev/null) || continue
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$name" ] || continue
        kill "$pid"
        while [ -e "/proc/$pid" ]; do sleep 0.1; done
    done
    rm -rf "$RUN"
}

case ${1:-} in
    start | stop) "$1" ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
