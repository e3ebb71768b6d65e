# Start the services named, again if they run, and wait until each serves.
set -eu
systemctl enable --quiet "$@"
sync -f /etc/systemd/system
for unit in "$@"; do
  timeout 60 systemctl restart "$unit" || {
    journalctl -u "$unit" -n 3 -o cat --no-pager >&2
    exit 1
  }
done
