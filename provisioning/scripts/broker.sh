# Start the broker, again if it runs.
systemctl enable --quiet fogguard-broker.service
sync -f /etc/systemd/system
timeout 30 systemctl restart fogguard-broker.service || {
  journalctl -u fogguard-broker.service -n 5 -o cat --no-pager >&2
  exit 1
}
