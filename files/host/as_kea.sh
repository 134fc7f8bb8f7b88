# How root reads what Kea's user may have its hands in: functions for other scripts.
#
# Below directories that only root can write to, root reads. Anywhere else a link, a pipe or a file
# without end may wait: there as_kea reads, who may have those files anyway, without following a
# link, so many bytes and so long. The reader is that user's own process, which it could stop for
# good: what waits for it has a limit of its own.
cd /

# as_kea COMMAND...: as Kea's user, for 8 seconds at most, or for $as_kea_s.
as_kea() {
  timeout -s KILL "${as_kea_s:-8}" setpriv --reuid=_kea --regid=_kea --init-groups -- "$@"
}

# taken BYTES: what comes, at most so much of it.
taken() { timeout -s KILL "$((${as_kea_s:-8} + 1))" head -c "$1"; }

# fetched FILE BYTES: as Kea's user; neither a link nor a pipe is opened.
fetched() {
  as_kea dd if="$1" bs=64K iflag=nofollow,nonblock,count_bytes,fullblock count="$2" status=none |
    taken "$2"
}

# kea_says QUESTION: what kea-dhcp4 answers on its socket, or why not. With perl, which any Debian
# has (perl-base is essential): curl speaks telnet to a socket, a tenth of a second at a time.
kea_says() {
  as_kea perl -MSocket -e 'socket(my $kea, AF_UNIX, SOCK_STREAM, 0);
    connect($kea, sockaddr_un($ARGV[0])) or die "$!\n"; syswrite($kea, $ARGV[1]);
    while (sysread($kea, my $piece, 65536)) { syswrite(STDOUT, $piece) }' \
    /run/kea/kea4-ctrl-socket "$1" 2>&1
}

# is_roots DIRECTORY: whether root alone can put something there.
is_roots() {
  [ ! -L "$1" ] && case $(stat -c '%u %A' "$1") in 0\ d????-??-?) ;; *) false ;; esac
}

# Whether /etc/kea is root's alone: of Debian 13's package it is Kea's user's.
conf_is_roots() {
  is_roots /etc/kea && { [ ! -e /etc/kea/tls ] || is_roots /etc/kea/tls; }
}
