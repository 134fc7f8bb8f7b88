# Puts what comes (packed, in base64) at $path, and what was there into $aside, $others with it.
#
# By kea, which runs a command as Kea's own user, wherever that user could put a link in the way.
# The digest tells whether all of the input came: it ends early, without an error, when the
# connection breaks. What is left of it is read to its end, or the connection would break over it
# before the reason has come back.
: "${path?}" "${others?}" "${aside?}" "${digest?}"
set -e; export LC_ALL=C; umask 077; cd /
trap 'cat >/dev/null; kea rm -f "$path.new"' EXIT
kea rm -f "$path.new"
kea sh -c 'umask 027; base64 -d | gzip -dc > "$1"' sh "$path.new"
echo "$digest  $path.new" | kea sha256sum --quiet -c -
kea chmod 640 "$path.new"; kea sync "$path.new"
mkdir "$aside"
[ ! -f "$path" ] || cp -a "$path" "$aside/"
sync -f "$aside"
kea mv -f "$path.new" "$path"
for file in $others; do [ ! -e "$file" ] || mv -f "$file" "$aside/"; done
sync -f "$aside"; rmdir --ignore-fail-on-non-empty "$aside"; kea sync -f "$path"
