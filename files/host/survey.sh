# What the host is like, value by value. It changes nothing, and what is missing is no failure.
#
# Everything that could hang has a timeout; everything that may be absent is asked for first. Nearly
# all of the time goes into starting programs, so each is started once, for all that it has to tell.
# shellcheck disable=SC2086,SC2046  # lists: each line of them is a word
# shellcheck disable=SC2030,SC2031  # in a pipe n counts for itself
: "${tools?}" "${packages?}" "${candidates?}" "${units?}" "${roots?}" "${documents?}"
: "${certificates?}" "${secrets?}" "${kept_certificates?}" "${own?}" "${own_certificates?}"
: "${keys?}" "${file_size?}" "${files_size?}" "${lease_files?}" "${status_get?}"
: "${read_log?}" "${log_taken?}"
exec </dev/null 2>/dev/null
have() { command -v "$1" >/dev/null; }
{ date '+%s.%N %Y-%m-%d %H:%M:%S.%3N'; nproc; dpkg --print-architecture
  for tool in $tools; do have "$tool" || echo "$tool"; done; } | put host
put os </etc/os-release
dpkg-query -W -f '${Package} ${db:Status-Abbrev} ${Version}\n' $packages | put packages
apt-cache policy $candidates | put policy
have ip && ip -j addr show | put interfaces
have ss && ss -Hlntup | put sockets

shown=$(systemctl show -p LoadState,UnitFileState,ActiveState,MainPID,NRestarts $units)
printf '%s\n' "$shown" | put units
for line in $shown; do
  case $line in MainPID=[1-9]*)
    readlink -n "/proc/${line#MainPID=}/exe" | put "executable.${line#MainPID=}" ;;
  esac
done

those() { for file; do [ ! -f "$file" ] || [ -L "$file" ] || echo "$file"; done; }
# Of a file of certificates nothing but those: whole blocks, of the letters that they are made of.
blocks() {
  awk '/^-----BEGIN CERTIFICATE-----\r?$/ { block = $0; next }
    block && /^-----END CERTIFICATE-----\r?$/ { print block; print; block = ""; next }
    block && /^[A-Za-z0-9+\/=]*\r?$/ { block = block "\n" $0; next }
    { block = "" }'
}

# What root alone can have put there: the attributes of all, then all of their bytes.
conf=; ! conf_is_roots || conf=roots
set --; for file in $roots ${conf:+$documents}; do [ ! -f "$file" ] || set -- "$@" "$file"; done
stat -L -c '%s %a %U:%G %n' "$@" | put attributes
[ $# = 0 ] || cat "$@" | head -c "$files_size" | put contents
n=0
if [ -n "$conf" ]; then
  set -- $(those $certificates $secrets); stat -c '%a %U:%G %n' "$@" | put conf_attributes
  for file in $certificates; do
    [ ! -f "$file" ] || { echo "@$n"; blocks <"$file"; }; n=$((n + 1))
  done | put certificates
  set -- $(those $certificates)
else
  set -- $(those $documents $certificates $secrets)
  [ $# = 0 ] || as_kea stat -c '%a %U:%G %n' "$@" | taken 10000 | put conf_attributes
  for file in $documents; do
    [ ! -f "$file" ] || fetched "$file" "$file_size" | put "conf.$n"; n=$((n + 1))
  done
  n=0
  for file in $certificates; do
    [ ! -f "$file" ] || { echo "@$n"; fetched "$file" "$file_size" | blocks; }; n=$((n + 1))
  done | put certificates
  set --
fi
for file in $kept_certificates $own_certificates; do [ ! -f "$file" ] || set -- "$@" "$file"; done
[ $# = 0 ] || sha256sum -z "$@" | put digests

# What the operator keeps on the host.
set --; for file in $own; do [ ! -f "$file" ] || set -- "$@" "$file"; done
[ $# = 0 ] || stat -L -c '%a %U:%G %n' "$@" | put own_attributes
n=0
for file in $own_certificates; do
  [ ! -f "$file" ] || { echo "@$n"; blocks <"$file"; }; n=$((n + 1))
done | put own_certificates
n=0
for file in $own_certificates; do
  [ ! -f "$file" ] || ! grep -q 'PRIVATE KEY-----' "$file" || echo $n; n=$((n + 1))
done | put own_with_keys
n=0
have openssl && for file in $keys; do
  [ ! -f "$file" ] || openssl pkey -in "$file" -pubout -passin pass: | put "public.$n"
  n=$((n + 1))
done

have nft && nft list table inet kea_ha | head -c 100 | put firewall
n=0
# The first row, and whether there is another.
for file in $lease_files; do
  [ ! -f "$file" ] || fetched "$file" 4096 | put "lease_file.$n"; n=$((n + 1))
done
# A reply of status-get's is 2 kB.
[ ! -S /run/kea/kea4-ctrl-socket ] || kea_says "$status_get" | taken 100000 | put status
as_kea sh -c "$read_log" | taken "$log_taken" | put log
