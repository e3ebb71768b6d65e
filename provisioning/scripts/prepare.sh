# Let the agent hold the bundle of the release $1 beside the one that it runs, and wait until it does.
set -eu
cd /opt/fogguard
unit=fogguard-agent.service
told() { systemctl show -p StatusText --value $unit; }
give_up() {
  rm -f next
  sync .
  hang_up || true
  echo "$1" >&2
  exit 1
}
before=$(told)
ln -sfn "releases/$1" .next
mv -T .next next
sync .
bundle=$(sha256sum < next/bundle/manifest.json | cut -c 1-16)
hang_up || give_up "its agent does not run"
for _ in $(seq 300); do
  now=$(told)
  case "$now" in
    "$before") ;; # it has not looked yet
    *refused:*) give_up "its agent does not take it: ${now##*refused: }" ;;
    *" $bundle"[,\ ]*) exit 0 ;;
  esac
  sleep 0.1
done
give_up "its agent does not hold it after 30 s: $now"
