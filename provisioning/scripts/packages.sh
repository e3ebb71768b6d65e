# Install the Debian packages in the archive $1. Debian's own broker service stays off: ours has its own unit.
set -eu
umask 022
[ -e /etc/systemd/system/mosquitto.service ] || ln -s /dev/null /etc/systemd/system/mosquitto.service
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
tar -xf "$1" -C "$new" --no-same-owner
export DEBIAN_FRONTEND=noninteractive
dpkg --configure -a
dpkg -i "$new"/*.deb
sync
rm -f "$1"
