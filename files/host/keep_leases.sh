# Keeps Kea's lease files in the directory $kept.
#
# `cp -a` brings links as links, so the names that _kea gave them must not be there before: whatever
# the run before kept there is kept no longer, once this is whole.
: "${kept?}"
umask 077; [ ! -e /var/lib/kea/kea-leases4.csv ] || {
  rm -rf "$kept.new" && mkdir "$kept.new" && cp -a /var/lib/kea/kea-leases4.csv* "$kept.new/" &&
    rm -rf "$kept" && mv "$kept.new" "$kept"
}
