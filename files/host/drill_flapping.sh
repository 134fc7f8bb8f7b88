# Cuts the link again and again, with the functions of drill_faults.sh and drill_ways_back.sh.
: "${cuts?}" "${cut_s?}" "${whole_s?}"
for _ in $(seq "$cuts"); do cut_link; sleep "$cut_s"; mend_link; sleep "$whole_s"; done
rm -f /run/kea-ha-drill-flap
