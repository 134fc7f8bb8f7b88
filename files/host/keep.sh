# Keeps what stands on the host now as its last accepted state, called $name, and what was kept
# before once more. Reads the settings that it was accepted with.
#
# In /, since cp of Debian 12 looks there for the directories that it is to make alike.
: "${name?}" "${files?}" "${units?}"
set -e; umask 077; cd /
last=/var/lib/kea-ha/last before=/var/lib/kea-ha/before
rm -rf $last.new; mkdir -p $last.new; cat > $last.new/settings
echo "$name" > $last.new/name
for file in $files; do [ ! -e "$file" ] || cp -a --parents "$file" $last.new; done
for unit in $units; do
  ! systemctl is-enabled --quiet "$unit" 2>/dev/null || echo "$unit"
done > $last.new/units
chmod -R o-rwx $last.new; sync -f $last.new
rm -rf $before; [ ! -d $last ] || mv $last $before; mv $last.new $last
