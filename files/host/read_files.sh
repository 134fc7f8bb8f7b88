# Those of these files that exist, and those of a set as they were at one moment.
#
# Names stand for files of Kea's cleanup: an inode stays the same while a file grows, and is not
# used for another one while it is in use; when it was made tells it from one in its place.
# shellcheck disable=SC2086  # lists: each line of them is a word
: "${plain?}" "${document_size?}" "${leases?}" "${largest?}" "${tries?}"
exec </dev/null
inodes() { stat -c '%i %W %n' $leases 2>/dev/null; }
n=0
for file in $plain; do
  if [ -f "$file" ]; then
    case $file in
      /etc/kea/*) if conf_is_roots; then head -c "$document_size" "$file"
        else fetched "$file" "$document_size"; fi ;;
      *) head -c "$document_size" "$file" ;;
    esac | put "document.$n"
  fi
  n=$((n + 1))
done
# shellcheck disable=SC2034  # for as_kea
as_kea_s=500
for try in $tries; do
  before=$(inodes); n=0; sizes=
  for file in $leases; do
    if [ -f "$file" ] && [ ! -L "$file" ]; then
      size=$(stat -c %s "$file"); sizes="$sizes$n $size
"
      [ "$size" -gt "$largest" ] ||
        fetched "$file" "$largest" | gzip -1 | put "lease.$((try * 10 + n))"
    fi
    n=$((n + 1))
  done
  if [ "$before" = "$(inodes)" ]; then
    printf '%s' "$sizes" | put "sizes.$try"; put "whole.$try"; break
  fi
done
