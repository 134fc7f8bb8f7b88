# Whether the partner's ports can be reached from here, or why not.
: "${address?}" "${ports?}"
for port in $ports; do
  words=$(timeout 4 bash -c "exec 3<>/dev/tcp/$address/$port" 2>&1); echo $? | put "code.$port"
  printf '%s' "$words" | put "words.$port"
done
