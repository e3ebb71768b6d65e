# What a device needs beside base.sh when its programs run under qemu's user emulation. $1 is the root.
set -eu
root=$1
# It cannot fork into a mount namespace, which systemd does for each service's credentials.
for unit in systemd-sysusers systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-sysctl \
  systemd-tmpfiles-setup-dev-early systemd-journald systemd-udev-load-credentials; do
  mkdir -p "$root/etc/systemd/system/$unit.service.d"
  printf '[Service]\nLoadCredential=\nImportCredential=\n' > "$root/etc/systemd/system/$unit.service.d/emulated.conf"
done
# Nor can it make user namespaces, as it has threads of its own; all else that hardens a service works.
mkdir -p "$root/etc/systemd/system/service.d"
printf '[Service]\nPrivateUsers=no\n' > "$root/etc/systemd/system/service.d/emulated.conf"
# A hardened service has a /proc of its own, with this machine's processor; onnxruntime, misled, dies with SIGSEGV.
# (Under another name than above: of two drop-ins of one name, systemd reads the more special one only.)
mkdir -p "$root/etc/systemd/system/fogguard-agent.service.d"
printf '[Service]\nBindReadOnlyPaths=/etc/lab/cpuinfo:/proc/cpuinfo\n' \
  > "$root/etc/systemd/system/fogguard-agent.service.d/processor.conf"

# It knows of the processor and the board what stands here.
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
