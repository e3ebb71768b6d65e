# Before every step: none runs beside another, even one whose connection has broken.
exec 9>> /run/fogguard.step
flock -w 60 9 || { echo "another step has not ended" >&2; exit 1; }

# Let the agent look again what it is to hold. `systemctl reload` would wait for one that waits for its broker.
hang_up() { systemctl kill --kill-who=main -s HUP fogguard-agent.service 2> /dev/null; }
