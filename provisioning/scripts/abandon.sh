# Let the agent hold nothing but what it runs.
set -eu
cd /opt/fogguard
rm -f next
sync .
hang_up || true
