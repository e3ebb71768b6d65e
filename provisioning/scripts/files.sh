# Put the files of the archive $1 where their names say, each by one rename, in the archive's order.
set -eu
umask 022
new=/etc/fogguard/.new
rm -rf "$new"
trap 'rm -rf "$new" "$1"' EXIT
mkdir -p /etc/fogguard
mkdir -m 700 "$new"
tar -xpf "$1" -C "$new" --no-same-owner
sync -f /etc/fogguard
tar -tf "$1" | while read -r file; do
  mkdir -p "/$(dirname "$file")"
  mv -fT "$new/$file" "/$file"
  sync "/$(dirname "$file")"
done
systemctl daemon-reload
