# Whether the partner's listener is reached, and the two accept each other.
: "${address?}" "${port?}"
LC_ALL=C timeout 5 openssl s_client -connect "$address:$port" -cert /etc/kea/tls/ha.crt \
  -key /etc/kea/tls/ha.key -CAfile /etc/kea/tls/ha-ca.crt -verify_return_error -brief \
  </dev/null 2>&1 ||
  { code=$?; [ $code = 124 ] && echo "no answer within 5 s: the path is blocked"; exit $code; }
