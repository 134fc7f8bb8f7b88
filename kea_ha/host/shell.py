"""Shell functions with which root reads and closes what Kea's user may have its hands in.

Below directories that only root can write to, root reads. Anywhere else a link, a pipe or a file
without end may wait: there ``as_kea`` reads, who may have those files anyway, without following a
link, so many bytes and so long. ``close_script`` takes a tree over from above: what is root's and
not writable for others cannot be exchanged any more below it.
"""

from __future__ import annotations

import json
from typing import Final

from kea_ha import layout
from kea_ha.foreign import quoted

#: How long Kea's user may take to read something to root, in seconds, unless it is told otherwise.
AS_KEA_S: Final = 8

# The reader is Kea's user's own process, which that user could stop for good: what waits for it has
# a limit of its own. Nothing that such a process prints is more than the bytes of a value.
READING: Final = f"""cd /
# as_kea COMMAND...: as Kea's user.
as_kea() {{
  timeout -s KILL "${{as_kea_s:-{AS_KEA_S}}}" \\
    setpriv --reuid={layout.KEA_USER} --regid={layout.KEA_USER} --init-groups -- "$@"
}}
# taken BYTES: what comes, at most so much of it.
taken() {{ timeout -s KILL "$((${{as_kea_s:-{AS_KEA_S}}} + 1))" head -c "$1"; }}
# fetched FILE BYTES: as Kea's user; neither a link nor a pipe is opened.
fetched() {{
  as_kea dd if="$1" bs=64K iflag=nofollow,nonblock,count_bytes,fullblock count="$2" status=none |
    taken "$2"
}}
# kea_says QUESTION: what kea-dhcp4 answers on its socket, or why not. With perl, which any
# Debian has (perl-base is essential): curl speaks telnet to a socket, a tenth of a second at a
# time.
kea_says() {{
  as_kea perl -MSocket -e 'socket(my $kea, AF_UNIX, SOCK_STREAM, 0);
    connect($kea, sockaddr_un($ARGV[0])) or die "$!\\n"; syswrite($kea, $ARGV[1]);
    while (sysread($kea, my $piece, 65536)) {{ syswrite(STDOUT, $piece) }}' \\
    {layout.CONTROL_SOCKET} "$1" 2>&1
}}
# is_roots DIRECTORY: whether root alone can put something there.
is_roots() {{
  [ ! -L "$1" ] && case $(stat -c '%u %A' "$1") in 0\\ d????-??-?) ;; *) false ;; esac
}}
# Whether /etc/kea is root's alone: of Debian 13's package it is Kea's user's.
conf_is_roots() {{
  is_roots {layout.CONF_DIR} && {{ [ ! -e {layout.TLS_DIR} ] || is_roots {layout.TLS_DIR}; }}
}}
"""

# Top down: before a directory's entries are looked at, nobody else can exchange them. What stays in
# the way then is something that root must not touch, since it may be another file of the host's.
_CLOSE: Final = """
refuse() {{ echo "$1 is $2: look at what it is, and remove it" >&2; exit 1; }}
# close_dir DIRECTORY MODE: root's alone to write to.
close_dir() {{
  [ ! -L "$1" ] || refuse "$1" 'a link'
  [ -d "$1" ] || refuse "$1" 'no directory'
  chown -h root:{group} "$1"; chmod "$2" "$1"
}}
# close_tree DIRECTORY: for the group to read. Directories first, each before what is below it.
close_tree() {{
  close_dir "$1" 0750
  # find reads a directory after it has been closed, and follows no link.
  find -P "$1" -mindepth 1 -xdev -type d -exec chown -h root:{group} {{}} \\; \\
    -exec chmod 0750 {{}} \\;
  odd=$(find -P "$1" -mindepth 1 -xdev \\
    \\( -type f -links +1 -o ! -type f ! -type d ! -user root \\) -print -quit)
  [ -z "$odd" ] || refuse "$odd" 'a link, or no file at all'
  find -P "$1" -xdev -type f -links 1 -exec chown -h root:{group} {{}} + -exec chmod 0640 {{}} +
}}
# close_tls MODE: the directory of the identities, before any of them is written. Whatever is in it
# was put there by root, if nobody else could; else it is not ours.
close_tls() {{
  [ ! -e {conf} ] || close_dir {conf} "$1"
  if [ -e {tls} ] || [ -L {tls} ]; then
    is_roots {tls} || refuse {tls} 'no directory of root alone'
  fi
  mkdir -p {tls}; close_dir {tls} "$1"
}}
# close_to_others DIRECTORY: Kea's user's own, of which others may read nothing. What is its own it
# closes itself, and takes over what is another's file: it may exchange that at any moment, so that
# root must not touch it by its name. A directory of root's is closed from inside.
close_to_others() {{
  [ ! -L "$1" ] || refuse "$1" 'a link'
  install -d -o {user} -g {user} -m 0750 "$1"
  # Kea's own cleanup may take a file away meanwhile.
  as_kea find -P "$1" -xdev -ignore_readdir_race \\
    -type d \\( ! -readable -o ! -executable \\) -prune -o \\
    -user {user} ! -type l -perm /007 -exec sh -c 'chmod -f o-rwx "$@" || :' sh {{}} + ||
    refuse "$1" 'kept from being closed, by a process of {user}'
  as_kea find -P "$1" -xdev -type f ! -user {user} -perm /007 -execdir sh -c '
    umask 077; [ ! -w . ] || for file; do
      cp --no-dereference --preserve=timestamps "$file" "$file.kea-ha" &&
        mv -f "$file.kea-ha" "$file"
    done' sh {{}} + 2>/dev/null || :
  find -P "$1" -mindepth 1 -xdev -type d -user root -prune -print0 |
    xargs -0 -r -n 1 sh -c '
      cd "$1" 2>/dev/null && [ "$(pwd -P)" = "$1" ] && [ "$(stat -c %u .)" = 0 ] || exit 0
      find . -xdev -type d ! -user root -prune -o -type d -exec chmod o-rwx,g-w {{}} \\;
      find . -xdev -type d ! -user root -prune -o \\
        -type f -user root -links 1 -perm /007 -exec chmod o-rwx {{}} +' sh
  return 0
}}
"""


def question(command: str) -> str:
    """A command to Kea as a word for ``kea_says``."""
    return quoted(json.dumps({"command": command}))


def close_functions(group: str = layout.KEA_USER) -> str:
    """``close_dir``, ``close_tree``, ``close_tls`` (for this group) and ``close_to_others``."""
    return _CLOSE.format(
        group=group, user=layout.KEA_USER, conf=layout.CONF_DIR, tls=layout.TLS_DIR
    )
