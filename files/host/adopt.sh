# Keeps what another installation left.
#
# Where another user than root can write, that user reads: it could lead root to any file. What
# comes is an archive, of which tar unpacks nothing outside, and as root's; 4 GB of it are kept.
set -e; umask 077
kept=/var/lib/kea-ha/adopted; mkdir -p "$kept"
as_its_owner() {
  timeout -s KILL 600 setpriv --reuid="$(stat -c %u "$dir")" --regid="$(stat -c %g "$dir")" \
    --clear-groups -- "$@"
}
for dir in /etc/kea /var/lib/kea /etc/dhcp /var/lib/dhcp /etc/dnsmasq.conf /etc/dnsmasq.d \
  /var/lib/misc
do
  [ -e "$dir" ] && [ ! -e "$kept$dir" ] || continue
  mkdir -p "$kept${dir%/*}"; rm -rf "$kept$dir.new"
  if [ ! -d "$dir" ] || is_roots "$dir"; then cp -a "$dir" "$kept$dir.new"
  else
    mkdir "$kept$dir.new"
    as_its_owner tar -cf - -C "$dir" . | timeout -s KILL 601 head -c 4G |
      tar -xf - --no-same-owner --no-same-permissions -C "$kept$dir.new"
    # What its owner may not read is missing from the archive. Never without a word.
    as_its_owner find "$dir" -mindepth 1 ! -type l ! -readable -prune |
      head -c 1M > "$kept$dir.left-out" || true
    [ -s "$kept$dir.left-out" ] || rm "$kept$dir.left-out"
  fi
  mv "$kept$dir.new" "$kept$dir"
done
