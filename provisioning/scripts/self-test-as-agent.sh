# Let the release $1 compare its golden outputs as the agent's service will run it: its user, state, devices and rights.
set -eu
release=/opt/fogguard/releases/$1
unit=/etc/systemd/system/fogguard-agent.service
set --
while read -r property; do set -- "$@" -p "$property"; done << END
$(sed -n '/^\[Service\]/,/^\[Install\]/p' $unit | grep -E '^[A-Z][A-Za-z]+=' |
  grep -vE '^(Type|Exec[A-Za-z]+|Restart[A-Za-z]*|WatchdogSec|Timeout[A-Za-z]+|LoadCredential)=')
END
exec systemd-run --quiet --collect --wait --pipe --unit=fogguard-self-test -p User=fogguard-agent "$@" \
  "$release/agent" --self-test --bundle bundle
