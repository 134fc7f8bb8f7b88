# Listens with the host's own certificate until there is a file called $stop, a minute at most.
#
# The loop writes, so that it ends with its connection; sh would otherwise outlive a killed run.
: "${stop?}" "${address?}" "${port?}"
mkdir -p -m 0700 /run/kea-ha; trap '' PIPE; n=0
openssl s_server -quiet -accept "$address:$port" -cert /etc/kea/tls/ha.crt \
  -key /etc/kea/tls/ha.key -CAfile /etc/kea/tls/ha-ca.crt -Verify 1 -verify_return_error \
  >/dev/null 2>/run/kea-ha/listener.err </dev/null &
listener=$!
while [ $n -lt 120 ] && [ ! -e "$stop" ] && kill -0 $listener 2>/dev/null; do
  echo . 2>/dev/null || break; sleep 0.5; n=$((n + 1))
done
if kill $listener 2>/dev/null; then code=0; else code=1; cat /run/kea-ha/listener.err >&2; fi
rm -f "$stop" /run/kea-ha/listener.err; exit $code
