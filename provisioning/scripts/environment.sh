# Make an environment out of the archive $1: name $2, for the interpreter $3 of version $4. Its imports are tried here.
set -eu
umask 022
venvs=/opt/fogguard/venvs
new=$venvs/.new-$2
rm -rf "$new"
trap 'rm -rf "$new" "$1"' EXIT
mkdir -p "$new/bin" "$new/lib/python$4/site-packages"
ln -s "$3" "$new/bin/python"
printf 'home = %s\ninclude-system-site-packages = false\nversion = %s\n' "${3%/*}" "$4" > "$new/pyvenv.cfg"
tar -xzf "$1" -C "$new/lib/python$4/site-packages" --no-same-owner
# A process of its own: a wheel made for another processor ends it with a signal. It leaves the byte code it needs.
ORT_DISABLE_TELEMETRY=1 "$new/bin/python" -c 'import numpy, msgspec, paho.mqtt.client, onnxruntime'
sync -f "$venvs"
[ ! -e "$venvs/$2" ] || rm -rf "$venvs/$2"
mv -T "$new" "$venvs/$2"
sync "$venvs"
