# Remove what is named, then the environments that no release needs, and what an interrupted run has left.
set -eu
rm -rf -- "$@"
find /etc/fogguard -mindepth 1 -type d -empty -delete
cd /opt/fogguard 2> /dev/null || exit 0
for engine in /var/lib/private/fogguard/engines/*; do # named by the graph that it was compiled from
  [ ! -d "$engine" ] || sha256sum releases/*/bundle/*.onnx | grep -q "^${engine##*/}" || rm -rf "$engine"
done
rm -rf releases/.new-* venvs/.new-*
for venv in venvs/*; do
  [ -d "$venv" ] || continue
  used=no
  for link in releases/*/venv; do
    if [ "$(readlink "$link")" = "../../$venv" ]; then used=yes; fi
  done
  [ $used = yes ] || rm -rf "$venv"
done
