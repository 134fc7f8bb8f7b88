# How root closes the directories that Kea's user may have its hands in: functions for other
# scripts, with those of as_kea.sh. $group is who may read there.
#
# Top down: before a directory's entries are looked at, nobody else can exchange them, since what is
# root's and not writable for others stays where it is. What stays in the way then is something that
# root must not touch, since it may be another file of the host's.

refuse() { echo "$1 is $2: look at what it is, and remove it" >&2; exit 1; }

# close_dir DIRECTORY MODE: root's alone to write to.
close_dir() {
  [ ! -L "$1" ] || refuse "$1" 'a link'
  [ -d "$1" ] || refuse "$1" 'no directory'
  chown -h "root:${group?}" "$1"; chmod "$2" "$1"
}

# close_tree DIRECTORY: for the group to read. Directories first, each before what is below it.
close_tree() {
  close_dir "$1" 0750
  # find reads a directory after it has been closed, and follows no link.
  find -P "$1" -mindepth 1 -xdev -type d -exec chown -h "root:${group?}" {} \; \
    -exec chmod 0750 {} \;
  odd=$(find -P "$1" -mindepth 1 -xdev \
    \( -type f -links +1 -o ! -type f ! -type d ! -user root \) -print -quit)
  [ -z "$odd" ] || refuse "$odd" 'a link, or no file at all'
  find -P "$1" -xdev -type f -links 1 -exec chown -h "root:${group?}" {} + -exec chmod 0640 {} +
}

# close_tls MODE: the directory of the identities, before any of them is written. Whatever is in it
# was put there by root, if nobody else could; else it is not ours.
close_tls() {
  [ ! -e /etc/kea ] || close_dir /etc/kea "$1"
  if [ -e /etc/kea/tls ] || [ -L /etc/kea/tls ]; then
    is_roots /etc/kea/tls || refuse /etc/kea/tls 'no directory of root alone'
  fi
  mkdir -p /etc/kea/tls; close_dir /etc/kea/tls "$1"
}

# close_to_others DIRECTORY: Kea's user's own, of which others may read nothing. What is its own it
# closes itself, and takes over what is another's file: it may exchange that at any moment, so that
# root must not touch it by its name. A directory of root's is closed from inside.
close_to_others() {
  [ ! -L "$1" ] || refuse "$1" 'a link'
  install -d -o _kea -g _kea -m 0750 "$1"
  # Kea's own cleanup may take a file away meanwhile.
  as_kea find -P "$1" -xdev -ignore_readdir_race \
    -type d \( ! -readable -o ! -executable \) -prune -o \
    -user _kea ! -type l -perm /007 -exec sh -c 'chmod -f o-rwx "$@" || :' sh {} + ||
    refuse "$1" 'kept from being closed, by a process of _kea'
  as_kea find -P "$1" -xdev -type f ! -user _kea -perm /007 -execdir sh -c '
    umask 077; [ ! -w . ] || for file; do
      cp --no-dereference --preserve=timestamps "$file" "$file.kea-ha" &&
        mv -f "$file.kea-ha" "$file"
    done' sh {} + 2>/dev/null || :
  find -P "$1" -mindepth 1 -xdev -type d -user root -prune -print0 |
    xargs -0 -r -n 1 sh -c '
      cd "$1" 2>/dev/null && [ "$(pwd -P)" = "$1" ] && [ "$(stat -c %u .)" = 0 ] || exit 0
      find . -xdev -type d ! -user root -prune -o -type d -exec chmod o-rwx,g-w {} \;
      find . -xdev -type d ! -user root -prune -o \
        -type f -user root -links 1 -perm /007 -exec chmod o-rwx {} +' sh
  return 0
}
