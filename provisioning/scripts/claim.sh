# Claim this device for $1, as long as our standard input goes on saying something. Waits for a step that was left alone.
set -eu
umask 077
exec 8>> /run/fogguard.claim 9>> /run/fogguard.step
flock -w 1 8 || { # whoever has just gone may still be letting go
  cat /run/fogguard.claim >&2
  exit 75
}
flock -w 60 9 || {
  echo "a step that was interrupted has not ended" >&2
  exit 1
}
flock -u 9
printf '%s\n' "$1" > /run/fogguard.claim
echo claimed
while [ -n "$(timeout 30 head -c 1)" ]; do :; done
