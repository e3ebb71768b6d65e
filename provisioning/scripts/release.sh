# Make the release $2 out of the archive $1, its environment being $3. A release that was changed is made whole again.
set -eu
umask 022
releases=/opt/fogguard/releases
new=$releases/.new-$2
rm -rf "$new"
trap 'rm -rf "$new" "$1"' EXIT
mkdir -p "$new"
tar -xf "$1" -C "$new" --no-same-owner
cd "$new"
[ "$(sha256sum < SHA256SUMS | cut -c 1-16)" = "$2" ] || { echo "the archive is not release $2" >&2; exit 1; }
sha256sum --quiet -c SHA256SUMS
ln -s "../../venvs/$3" venv
sync -f "$releases"
if [ -d "$releases/$2" ]; then
  { cut -c 67- SHA256SUMS; echo SHA256SUMS; echo venv; } | while read -r file; do
    mkdir -p "$releases/$2/$(dirname "$file")"
    mv -fT "$file" "$releases/$2/$file"
  done
  sync -f "$releases"
else
  mv -T "$new" "$releases/$2"
fi
sync "$releases"
