# How what a drill has broken is put back: functions, each for one of drill_faults.sh.
#
# They run from a timer of systemd's, too, for which a dollar sign before a brace, or before another
# one, is its own to expand: here is none, not even to ask for $unit and $interface.
# shellcheck disable=SC2154

revive() {
  rm -f "/run/systemd/system/$unit.d/zz-kea-ha-drill.conf"; systemctl daemon-reload
  systemctl reset-failed "$unit" 2>/dev/null; systemctl start "$unit"
}
undrift() {
  rm -f "/run/systemd/system/$unit.d/zz-kea-ha-drill.conf"; systemctl daemon-reload
  systemctl restart "$unit"
}
mend_link() { nft delete table inet kea_ha_drill 2>/dev/null; true; }
rejoin() { nft delete table netdev kea_ha_drill 2>/dev/null; true; }
speed_up() {
  ! tc qdisc show dev "$interface" | grep -q 'tbf 4ea: root' ||
    tc qdisc del dev "$interface" root
}

# Put back is only what is still there of the drill: somebody may have made a new one meanwhile.
unexpire() {
  crt=/etc/kea/tls/ha.crt drill=/var/lib/kea-ha/drill
  [ -f $drill-saved.crt ] || return 0
  if cmp -s $drill-expired.crt $crt; then
    cp -p $drill-saved.crt $crt.new && mv -f $crt.new $crt || return 1
  fi
  ! cmp -s $drill-saved.crt $crt || systemctl restart "$unit" || return 1
  rm -f $drill-saved.crt $drill-expired.crt
}
