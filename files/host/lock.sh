# Takes the host for whoever is named on the standard input, or tells who holds it.
#
# Fields of /proc/PID/stat after the name: 2 is the parent, 20 the start time (proc(5)).
# The lock belongs to the nearest ancestor that is no shell: the ssh session's own process, which
# lives exactly as long as the connection. So nothing has to be cleaned up after a kill, and no
# clock decides whether a lock is stale.
who=$(cat)
mkdir -p -m 0700 /run/kea-ha && cd /run/kea-ha || exit 2
stat_field() { sed 's/^.*) //' /proc/"$1"/stat 2>/dev/null | cut -d' ' -f"$2"; }
pid=$$
while :; do
  parent=$(stat_field "$pid" 2); [ "${parent:-0}" -gt 1 ] || break; pid=$parent
  case $(cat /proc/"$pid"/comm) in
    *sh|sudo|su|doas|timeout|env|runuser) ;;
    *) break ;;
  esac
done
exec 9>lock.guard; flock -w 10 9 || { echo "the lock's guard is stuck" >&2; exit 1; }
if [ -f lock ]; then
  { read -r old since_boot; read -r words; } < lock
  if [ "$old" != "$pid" ] && [ "$(stat_field "$old" 20)" = "${since_boot:-never}" ]; then
    echo "$words, ssh session pid $old" | put held; put end </dev/null; exit 1
  fi
fi
{ echo "$pid $(stat_field "$pid" 20)"; echo "$who since $(date '+%F %T %Z')"; } > lock.new || exit 1
mv lock.new lock || exit 1
