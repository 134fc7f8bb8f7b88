# Who answers a DHCPDISCOVER on an interface within some seconds, but for those to be ignored.
# shellcheck disable=SC2086  # lists: each line of them is a word
: "${ignored?}" "${interface?}" "${seconds?}"
said() {
  probe=$(command -v dhcpcd)
  if [ -z "$probe" ]; then
    # In memory, unless nothing may be executed there; where dpkg keeps its scripts it always may.
    umask 022; gone=
    for place in /dev/shm /var/lib; do
      gone=$(mktemp -d $place/kea-ha-probe.XXXXXX) || continue
      trap 'rm -rf "$gone"' EXIT; cd "$gone" && chmod 755 . || exit 1
      : >try; chmod 755 try; [ ! -x try ] || break
      cd /; rm -rf "$gone"
    done
    apt-get -qq -o APT::Sandbox::User=root download dhcpcd-base || exit 1
    set +f; dpkg -x dhcpcd-base_*.deb . || exit 1
    for probe in "$gone"/usr/sbin/dhcpcd "$gone"/sbin/dhcpcd; do [ ! -x "$probe" ] || break; done
  fi
  timeout -k 1 "$seconds" "$probe" -4 -T -B -L -f /dev/null -c /bin/true $ignored "$interface"
  echo $? >&3
}
exec 4>&1
code=$({ (said) 2>&1 3>&5 | head -c 100000 | put said >&4; } 5>&1); echo "$code" | put ended
