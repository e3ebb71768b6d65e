# Let the release $1 be the current one by one rename, start its agent, and wait until it serves.
set -eu
cd /opt/fogguard
old=$(readlink current || true)
if [ "$old" != "releases/$1" ]; then
  if [ -n "$old" ]; then
    ln -sfn "$old" .previous
    mv -T .previous previous
    sync .
  fi
  ln -sfn "releases/$1" .current
  mv -T .current current
  sync .
fi
rm -f next
unit=fogguard-agent.service
systemctl enable --quiet $unit
sync -f /etc/systemd/system
before=$(systemctl show -p InvocationID --value $unit)
systemctl restart --no-block $unit
systemctl try-restart --no-block 'fogguard-sensor-*.service' || true # there may be none
for _ in $(seq 150); do
  if [ "$(systemctl show -p ActiveState --value $unit)" = active ] &&
    [ "$(systemctl show -p InvocationID --value $unit)" != "$before" ]; then
    exit 0
  fi
  sleep 0.2
done
# What systemd says of every start tells nothing.
journalctl -u $unit -n 20 -o cat --no-pager | grep -vE '^(Starting|Started|Stopped|Failed to start) |: (Scheduled|Consumed|Failed with) ' |
  tail -n 3 >&2
exit 1
