# Until Kea's log has one more heartbeat that found nobody.
: "${tries?}"
count() { grep -ac HA_HEARTBEAT_COMMUNICATIONS_FAILED /var/log/kea/kea-dhcp4.log; }
before=$(count)
while [ "$(count)" = "$before" ] && [ $((tries -= 1)) -gt 0 ]; do sleep 0.05; done
