"""Files of a host as one text, and a lease file back: the shell scripts, and what they print.

Pure, but for being shell. Kea may rotate its lease files (Lease File Cleanup) while they are read.
Then the names stand for other files afterwards than before, and all is read again: what is taken is
a set that Kea could have loaded at one moment. Nothing is left on the host by reading.
"""

from __future__ import annotations

import gzip
import io
import shlex
import tarfile
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable
from hashlib import sha256

from kea_ha import layout
from kea_ha.leases import whole_lines

_BEGIN, _WHOLE, _AGAIN = "@@ archive", "@@ whole", "@@ rotated"


class CopyError(Exception):
    """Raised when a host's answer does not hold its files whole."""


def read_script(plain: Collection[str], set_: Collection[str]) -> str:
    """Print those of these files that exist; those of ``set_`` as they were at one moment."""
    return _READ.format(
        begin=_BEGIN,
        whole=_WHOLE,
        again=_AGAIN,
        # With -T it makes an empty archive, too.
        tar="tar --hard-dereference -T /dev/null -cf",
        plain=shlex.join(plain),
        set=shlex.join(set_),
    )


def parse(output: Iterable[str], growing: Collection[str]) -> dict[str, bytes]:
    """What ``read_script`` printed: the files' content by their paths.

    Of the files that are ``growing`` a last line that was only partly written is dropped.

    :raises CopyError: when it is cut short, or not one moment's.
    """
    taken: list[str] = []
    for line in output:
        if line == _BEGIN:
            taken = []
        elif line == _WHOLE:
            return _unpack("".join(taken), growing)
        elif line == _AGAIN:
            taken = []
        else:
            taken.append(line)
    raise CopyError("its files were not read whole")


def write_script(
    content: bytes,
    *,
    path: str,
    others: Collection[str],
    aside: str,
    user: str = layout.KEA_USER,
) -> str:
    """Put ``write_input`` of this content at ``path`` as ``user``, and move the ``others`` aside.

    What was there, if anything, is kept in ``aside``, a directory that is root's alone. The file
    appears whole or not at all; until it does nothing that Kea reads is touched. It has to hold
    what all of the others hold: then it supersedes them, and they may stay for a while or not.
    """
    return _WRITE.format(
        path=shlex.quote(path),
        new=shlex.quote(f"{path}.new"),
        others=shlex.join(others),
        aside=shlex.quote(aside),
        digest=sha256(content).hexdigest(),
        user=user,
    )


def write_input(content: bytes) -> str:
    """What ``write_script`` reads on its standard input."""
    return b64encode(gzip.compress(content, mtime=0)).decode()


def _unpack(text: str, growing: Collection[str]) -> dict[str, bytes]:
    files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(b64decode(text)), mode="r:gz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                if file is not None:
                    path, content = f"/{member.name}", file.read()
                    files[path] = whole_lines(content) if path in growing else content
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise CopyError(f"its files came damaged ({error})") from error
    return files


# tar ends with 1 when a file has grown meanwhile: of that it has what was there when it began. An
# inode stays the same while a file grows, and is not used for another one while it is in use.
_READ = """export LC_ALL=C; umask 077; cd /
inodes() {{ stat -c '%i %n' {set} 2>/dev/null; }}
for try in 1 2 3 4 5; do
  before=$(inodes)
  set --; for file in {plain} {set}; do [ ! -f "$file" ] || set -- "$@" "${{file#/}}"; done
  echo '{begin}'
  exec 3>&1
  status=$({{ {{ {tar} - -- "$@"; echo $? >&4; }} | gzip | base64 >&3; }} 4>&1 2>/dev/null)
  if [ "$before" != "$(inodes)" ]; then echo '{again}'
  elif [ "$status" -gt 1 ]; then {tar} /dev/null -- "$@"; exit 1
  else echo '{whole}'; exit 0; fi
done
echo 'Kea rotated its lease files each time that they were read' >&2; exit 1
"""

# As Kea's own user wherever that user could put a link in the way. The digest tells whether all of
# the input came: it ends early, without an error, when the connection breaks. What is left of it is
# read to its end, or the connection would break over it before the reason has come back.
_WRITE = """set -e; export LC_ALL=C; umask 077; cd /
kea() {{ runuser -u {user} -- "$@"; }}
trap 'cat >/dev/null; kea rm -f {new}' EXIT
kea rm -f {new}
kea sh -c 'umask 027; base64 -d | gzip -dc > "$1"' sh {new}
echo '{digest}  '{new} | kea sha256sum --quiet -c -
kea chmod 640 {new}; kea sync {new}
mkdir {aside}
[ ! -f {path} ] || cp -a {path} {aside}/
sync -f {aside}
kea mv -f {new} {path}
for file in {others}; do [ ! -e "$file" ] || mv -f "$file" {aside}/; done
sync -f {aside}; rmdir --ignore-fail-on-non-empty {aside}; kea sync -f {path}
"""
