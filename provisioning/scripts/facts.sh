# Everything fogguard asks of a device, in one round trip. Changes nothing, and needs no Python.
# $1 the port of the broker that it carries, or 0; then host and port of each broker of the fleet.
# Each section begins with "@@ name" and is raw: facts.py takes it apart.
section() { echo "@@ $1"; }

section uid; id -u
section machine; uname -m
section kernel; uname -r
section bits; getconf LONG_BIT
section os; cat /etc/os-release
section libc; getconf GNU_LIBC_VERSION
section model; cat /sys/firmware/devicetree/base/model 2> /dev/null | tr '\0' '\n'
section jetpack; head -n 1 /etc/nv_tegra_release 2> /dev/null
section cpu; grep -E -m 1 '^(flags|Features)' /proc/cpuinfo
section cores; getconf _NPROCESSORS_ONLN
section memory; grep -E '^Mem(Total|Available):' /proc/meminfo
section disk; for folder in /opt /; do [ -d $folder ] && df -Pk $folder | tail -n 1 && break; done
section root; grep ' / ' /proc/mounts
section home
home=$(getent passwd "${SUDO_USER:-$(id -un)}" | cut -d : -f 6)
for folder in "$home/.cache/fogguard" "$home"; do [ -d "$folder" ] && df -Pk "$folder" | tail -n 1 && break; done
section clock; date +%s
section ntp; timedatectl show -p NTPSynchronized --value 2> /dev/null
section temperature; cat /sys/class/thermal/thermal_zone*/temp 2> /dev/null
section throttled; cat /sys/devices/platform/soc/soc:firmware/get_throttled 2> /dev/null ||
  vcgencmd get_throttled 2> /dev/null
section systemd; systemctl --version 2> /dev/null | head -n 1

section pythons
for python in $(ls /usr/bin/python3.[0-9] /usr/bin/python3.[0-9][0-9] /usr/local/bin/python3.[0-9][0-9] 2> /dev/null); do
  "$python" -SI -c 'import ctypes, hashlib, json, socket, ssl, uuid, sys, sysconfig
print(sys.executable, "%d.%d" % sys.version_info[:2], sysconfig.get_config_var("SOABI"))' 2> /dev/null ||
    echo "$python incomplete -"
done

section mosquitto; PATH=$PATH:/usr/sbin:/usr/local/sbin command -v mosquitto
section listening # on that port here: each by its process and, if it is a service, by its unit
for pid in $(ss -Hltnp "sport = :${1:-0}" 2> /dev/null | grep -o 'pid=[0-9]*' | cut -d = -f 2 | sort -u); do
  echo "$(cat /proc/$pid/comm) $(grep -o '[^/]*\.service$' /proc/$pid/cgroup | head -n 1)"
done 2> /dev/null

section unreachable
while [ $# -gt 2 ]; do
  timeout 2 bash -c 'exec 3<> "/dev/tcp/$0/$1"' "$2" "$3" 2> /dev/null || echo "$2 port $3" &
  shift 2
done
wait

section current; readlink /opt/fogguard/current 2> /dev/null
section previous; readlink /opt/fogguard/previous 2> /dev/null
section next; readlink /opt/fogguard/next 2> /dev/null
for link in current previous; do
  section ${link}_base
  [ -d /opt/fogguard/$link ] && grep -v '  bundle/' /opt/fogguard/$link/SHA256SUMS | sha256sum | cut -c 1-16
  section ${link}_bundle; sha256sum /opt/fogguard/$link/bundle/manifest.json 2> /dev/null | cut -c 1-16
done
section sink; grep -o '"sink": *"[^"]*"' /opt/fogguard/current/bundle/manifest.json 2> /dev/null | cut -d '"' -f 4
section releases; ls /opt/fogguard/releases 2> /dev/null
section venvs; ls /opt/fogguard/venvs 2> /dev/null
section changed
if [ -d /opt/fogguard/current ]; then
  (cd /opt/fogguard/current && sha256sum --quiet -c SHA256SUMS 2> /dev/null | grep -E ': FAILED')
fi
section files
find /etc/fogguard /etc/systemd/system/fogguard-agent.service /etc/systemd/system/fogguard-broker.service \
  /etc/systemd/system/fogguard-sensor-*.service \
  -type f -exec sha256sum {} + 2> /dev/null
section services
for unit in fogguard-agent.service fogguard-broker.service \
  $(cd /etc/systemd/system && ls -d fogguard-sensor-*.service 2> /dev/null); do
  systemctl show $unit -p Id -p ActiveState -p UnitFileState -p NRestarts -p StatusText 2> /dev/null | tr '\n' ' '
  echo
done
