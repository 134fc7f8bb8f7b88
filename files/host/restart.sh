# Runs those of $units that were enabled in the accepted state in $kept, and stops the others.
: "${kept?}" "${units?}"
set -e
wanted() { grep -qxF -- "$1" "$kept/units"; }
for unit in $units; do
  wanted "$unit" || systemctl disable --quiet --now "$unit" 2>/dev/null || true
done
wanted kea-ha-firewall.service || nft delete table inet kea_ha 2>/dev/null || true
for unit in $units; do
  wanted "$unit" || continue
  systemctl unmask --quiet "$unit" 2>/dev/null || true
  SYSTEMCTL_SKIP_SYSV=1 systemctl enable --quiet "$unit" 2>/dev/null
  systemctl reset-failed "$unit" 2>/dev/null || true
  systemctl restart "$unit"
done
