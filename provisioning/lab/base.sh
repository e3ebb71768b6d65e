# What makes a Debian root a device: run by mmdebstrap when all packages are in. $1 is the root.
set -eu
root=$1
useradd --root "$root" --create-home --uid 1000 --shell /bin/bash fog
echo 'fog ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/fog"
chmod 0440 "$root/etc/sudoers.d/fog"

# Each device gets keys and an identity of its own.
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
cat > "$root/etc/ssh/sshd_config.d/lab.conf" << END
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
UseDNS no
END
# Who can connect can log in: no "System is booting up".
mkdir -p "$root/etc/systemd/system/ssh.service.d"
printf '[Unit]\nAfter=systemd-user-sessions.service\n' > "$root/etc/systemd/system/ssh.service.d/lab.conf"
# As on a Raspberry Pi, the journal is in memory.
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\n' > "$root/etc/systemd/journald.conf.d/lab.conf"

# What a machine without hardware has no use for, or what would work in the background while somebody measures. The
# broker is there, because nothing can be fetched from within the lab; `fogguard provision` starts it with its own unit.
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer \
  console-getty.service getty@.service systemd-update-utmp.service e2scrub_reap.service sshd-keygen.service \
  mosquitto.service; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
touch "$root/etc/default/locale"
