# Whether Kea's directories are as own_directories.sh leaves them.
[ "$(stat -c '%a %U:%G' /etc/kea /etc/kea/tls | sort -u)" = '750 root:_kea' ] &&
[ "$(stat -c '%a %U:%G' /var/lib/kea /var/log/kea | sort -u)" = '750 _kea:_kea' ] &&
[ -z "$(find /etc/kea -type f ! \( -perm 640 -user root -group _kea \))" ] &&
[ -z "$(find /etc/kea /var/lib/kea /var/log/kea ! -type l -perm /007)" ]
