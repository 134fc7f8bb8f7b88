# Closes the directory of the identities, before any of them is written.
#
# It is root's alone until Kea's group exists (the install step hands it over). Where Kea was
# installed before, /etc/kea may be _kea's, and whatever is in it.
# shellcheck disable=SC2034  # group: for close_tls
set -e; umask 077
if getent group _kea >/dev/null; then group=_kea mode=750; else group=root mode=700; fi
close_tls $mode
