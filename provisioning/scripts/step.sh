# Before every step: none runs beside another, even one whose connection has broken.
exec 9>> /run/fogguard.step
flock -w 60 9 || { echo "another step has not ended" >&2; exit 1; }
