# Makes a private key, unless it is there; after close_identities.sh.
: "${key?}" "${group?}"
if [ ! -s "$key" ]; then
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$key.part" 2>/dev/null
  sync "$key.part"; mv -f "$key.part" "$key"
fi
[ "$group" = root ] || { chown "root:$group" "$key"; chmod 640 "$key"; }
