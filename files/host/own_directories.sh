# Closes Kea's directories to others, and hands the identities to Kea's group.
#
# Debian 13 ships /etc/kea owned by _kea, who could then replace what root wrote there. dpkg has to
# be told, or an upgrade would put it back. Nothing below these directories is for others to read.
set -e
# shellcheck disable=SC2034  # for close_tree
group=_kea
close_tree /etc/kea
dpkg-statoverride --quiet --force-all --update --add root _kea 0750 /etc/kea 2>/dev/null
for dir in /var/lib/kea /var/log/kea; do close_to_others "$dir"; done
