# Puts back the accepted state in the directory $kept, file by file.
#
# Only what differs is written, by a rename, so that nothing is left half-way on a full disk. What
# is no longer wanted stops first: it may hold a port that what is put back needs.
: "${kept?}" "${documents?}"
set -e; umask 077
[ -s "$kept/units" ] || { echo "no accepted state is kept in $kept" >&2; exit 1; }
for file in $documents; do
  rm -f "$file.new"
  if [ ! -f "$kept$file" ]; then rm -f "$file"
  elif ! cmp -s "$kept$file" "$file"; then
    mkdir -p "${file%/*}"; cp -a "$kept$file" "$file.new"
    case $file in /etc/systemd/*) chmod 644 "$file.new" ;; esac
    mv -f "$file.new" "$file"
  fi
done
set +f
for one in "$kept"/etc/kea/tls/*; do
  file=${one#"$kept"}; rm -f "$file.new"
  cmp -s "$one" "$file" || { cp -a "$one" "$file.new"; mv -f "$file.new" "$file"; }
done
sync; systemctl daemon-reload
