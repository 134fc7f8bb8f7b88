# How a drill breaks a host: functions, each with its way back in drill_ways_back.sh.
: "${role?}" "${unit?}" "${port?}" "${interface?}"

# Held down: systemd would start it again within two seconds. In /run, so that no reboot keeps it;
# last by its name, since the rollout's own drop-in says otherwise.
hold_down() {
  mkdir -p "/run/systemd/system/$unit.d" &&
    printf '[Service]\nRestart=no\n' >"/run/systemd/system/$unit.d/zz-kea-ha-drill.conf" &&
    systemctl daemon-reload && systemctl kill -s KILL "$unit"
}

cut_link() {
  nft -f - <<END
table inet kea_ha_drill {
  chain in { type filter hook input priority -10; tcp dport $port drop; tcp sport $port drop; }
  chain to { type filter hook output priority -10; tcp dport $port drop; tcp sport $port drop; }
}
END
}

# It ends by itself, whatever becomes of the drill.
flap() {
  command -v nft >/dev/null || { echo "nft is not there" >&2; return 1; }
  printf '%s' "${flapping?}" > /run/kea-ha-drill-flap
  setsid sh /run/kea-ha-drill-flap >/dev/null 2>&1 </dev/null &
}

# Both what Kea sends through the kernel and what it sends past it, as DHCP's raw packets are. ssh
# and what it needs to find its way are let through, or the host could not be told to come back.
isolate() {
  ports=$(sshd -T 2>/dev/null | sed -n 's/^port //p' | paste -sd,)
  nft -f - <<END
table netdev kea_ha_drill {
  chain in { type filter hook ingress device $interface priority -10;
    ether type arp accept; meta l4proto ipv6-icmp accept;
    tcp dport { ${ports:-22} } accept; drop; }
  chain to { type filter hook egress device $interface priority -10;
    ether type arp accept; meta l4proto ipv6-icmp accept;
    tcp sport { ${ports:-22} } accept; drop; }
}
END
}

# By a handle of its own, so that only that is taken away.
slow_down() {
  tc qdisc add dev "$interface" root handle 4ea: tbf rate 32kbit burst 4kb latency 400ms
}

# Both servers have to start anew to get out of it, so it is a fault of both, in one clock.
drift() {
  [ "$role" = standby ] || return 0
  mkdir -p "/run/systemd/system/$unit.d" &&
    ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null &&
    printf '[Service]\nEnvironment=FAKETIME=+70s FAKETIME_DONT_FAKE_MONOTONIC=1 LD_PRELOAD=%s\n' \
      /usr/lib/*/faketime/libfaketime.so.1 >"/run/systemd/system/$unit.d/zz-kea-ha-drill.conf" &&
    systemctl daemon-reload && systemctl restart "$unit"
}

# Kea keeps a connection that is good, so that it does not notice before it has to make a new one.
# Reads the certificate.
expire() {
  crt=/etc/kea/tls/ha.crt drill=/var/lib/kea-ha/drill
  cp -p $crt $drill-saved.crt && cp -p $drill-saved.crt $drill-expired.crt &&
    cat > $drill-expired.crt && cp -p $drill-expired.crt $crt.new &&
    mv -f $crt.new $crt && systemctl restart "$unit"
}
