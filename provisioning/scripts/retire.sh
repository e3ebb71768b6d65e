# Stop the services named, now and after the next start.
systemctl disable --quiet --now "$@"
sync -f /etc/systemd/system
