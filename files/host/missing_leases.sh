# Reads lines of an address and a MAC; tells the addresses that are not that client's here.
while read -r address mac; do
  kea_says "{\"command\":\"lease4-get\",\"arguments\":{\"ip-address\":\"$address\"}}" |
    grep -q "\"hw-address\": \"$mac\"" || echo "$address"
done | put missing
