# try NUMBER WHO MUST URL: one request, as WHO, that must be answered (yes) or not (no), and what
# became of it.
#
# The stranger's key is made for this one script, in root's own tmpfs directory, and goes with it.
# Names are not verified for the negative controls: the server's refusal is what is asked for. What
# answers there may be anything: it fills no more than a megabyte (ulimit counts blocks of 512).
: "${timeout_s?}"
umask 077; mkdir -p -m 0700 /run/kea-ha
work=$(mktemp -d /run/kea-ha/controls.XXXXXX) || exit 1; trap 'rm -rf "$work"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 \
  -subj /CN=stranger -addext extendedKeyUsage=clientAuth,serverAuth \
  -keyout "$work/key" -out "$work/crt" 2>/dev/null || exit 1
try() {
  n=$1; who=$2; must=$3; url=$4; set --
  case $who in
    ha) set -- --cert /etc/kea/tls/ha.crt --key /etc/kea/tls/ha.key ;;
    stranger) set -- --cert "$work/crt" --key "$work/key" ;;
  esac
  if [ "$must" = yes ]; then set -- "$@" --cacert /etc/kea/tls/ha-ca.crt
  else set -- "$@" --insecure; fi
  (ulimit -f 2048; curl -sv --noproxy '*' --max-time "$timeout_s" -o "$work/body" \
    -w '%{http_code} %{exitcode}' -H 'Content-Type: application/json' \
    -d '{"command":"list-commands"}' "$@" "$url" 2>"$work/err") | put "code.$n"
  sed -n 's/^[*] SSL connection using \([A-Za-z0-9.]*\) .*/\1/p' "$work/err" | put "tls.$n"
  [ ! -s "$work/body" ] || put "body.$n" <"$work/body"
  grep -iE '^[*] .*(alert|error|refused|timed out|reset|empty reply|closed)' "$work/err" |
    tail -n 1 | head -c 500 | put "words.$n"
  rm -f "$work/body"
}
