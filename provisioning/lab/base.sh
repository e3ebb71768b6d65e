# What makes a Debian root a device: run by mmdebstrap when all packages are in. $1 is the root, $2 "emulated" or "native".
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

[ "$2" = emulated ] || exit 0

# qemu's user emulation: it lacks what systemd needs for credentials, and knows of the board what stands here.
for unit in systemd-sysusers systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-sysctl \
  systemd-tmpfiles-setup-dev-early systemd-journald systemd-udev-load-credentials; do
  mkdir -p "$root/etc/systemd/system/$unit.service.d"
  printf '[Service]\nLoadCredential=\nImportCredential=\n' > "$root/etc/systemd/system/$unit.service.d/emulated.conf"
done
mkdir -p "$root/etc/lab/devicetree/base" "$root/etc/systemd/system.conf.d"
cp "$(dirname "$0")/cpuinfo.pi4" "$root/etc/lab/cpuinfo"
printf 'Raspberry Pi 4 Model B Rev 1.5\0' > "$root/etc/lab/devicetree/base/model"
printf 'raspberrypi,4-model-b\0brcm,bcm2711\0' > "$root/etc/lab/devicetree/base/compatible"
cat > "$root/etc/systemd/system/lab-board.service" << END
[Unit]
Description=Show the processor and the board of a Raspberry Pi 4
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/mount --bind /etc/lab/cpuinfo /proc/cpuinfo
ExecStart=-/bin/mount -t tmpfs tmpfs /sys/firmware
ExecStart=-/bin/mkdir -p /sys/firmware/devicetree
ExecStart=-/bin/cp -r /etc/lab/devicetree/base /sys/firmware/devicetree/
[Install]
WantedBy=sysinit.target
END
mkdir -p "$root/etc/systemd/system/sysinit.target.wants"
ln -sf ../lab-board.service "$root/etc/systemd/system/sysinit.target.wants/lab-board.service"
# Services, SSH sessions and sudo: all see the same processor.
printf '[Manager]\nDefaultEnvironment=QEMU_CPU=cortex-a72\n' > "$root/etc/systemd/system.conf.d/emulated.conf"
echo 'SetEnv QEMU_CPU=cortex-a72' >> "$root/etc/ssh/sshd_config.d/lab.conf"
echo 'Defaults env_keep += QEMU_CPU' > "$root/etc/sudoers.d/emulated"
chmod 0440 "$root/etc/sudoers.d/emulated"
