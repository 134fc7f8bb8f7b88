# Of each kind of message in Kea's log the last ones, each with the number of its line, and how far
# back the log reaches.
#
# So many of a kind, and each so long: a stranger who has one kind written without end hides no
# other. Of kinds that tell nothing of the pair there are at most 30. Of what kind a message is
# stands in its fifth field, by which Kea's manual lists it. Refused handshakes are known by whom
# they are with, too: only the partner's are looked at.
: "${files?}" "${of_a_kind?}" "${partner?}"
for file in $files; do [ ! -f "$file" ] || tail -c 8M "$file"; done |
awk -v of_a_kind="$of_a_kind" -v partner="$partner" '
  $1 !~ /^20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]$/ { next }
  $4 !~ /^\[/ || $5 !~ /^[A-Z][A-Z0-9_]*$/ { next }
  !since { since = $1 " " $2 }
  { kind = ""; own = $5 ~ /^(HA|HOOKS)_|^DHCP4_(START|MULTI|CONFIG|INIT|PARSER|DYNAMIC)/ }
  own || $3 == "WARN" || $3 == "ERROR" || $3 == "FATAL" || $5 ~ /^HTTP_/ { kind = $5 }
  $5 == "COMMAND_RECEIVED" && /\047ha-/ { kind = $5 " " $8; own = 1 }
  $5 == "HTTP_CONNECTION_HANDSHAKE_FAILED" { kind = $9 == partner ? $5 : ""; own = 1 }
  kind == "" { next }
  !(kind in seen) && !own && ++others > 30 { next }
  { at = seen[kind]++ % of_a_kind; line[kind, at] = NR ":" substr($0, 1, 600) }
  END { if (since) print "since:" since; for (one in line) print line[one] }
'
