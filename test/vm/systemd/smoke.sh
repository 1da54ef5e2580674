# Installs the agent as a unit, learns a unit, holds it to its baseline, responds to what it does, and stops.
set -eu

. /opt/lib.sh
unit=shop.service

request() {
	rm -f /run/shop/answer
	echo "$1" >/run/shop/ask.new
	mv /run/shop/ask.new /run/shop/ask
}

ask() {
	request "$1"
	until_true 120 test -e /run/shop/answer
	cat /run/shop/answer
}

shown() { plumbline-agent baseline show shop.service | grep -q "path: $1\$"; }
alerts() { journalctl --no-pager -o cat -u plumbline-agent | grep -c '"rule":"Exec outside baseline".*"verdict":"deny"' || :; }

told() { journalctl --no-pager -o cat -u plumbline-agent | grep -c "\"rule\":\"$1\".*\"outcome\":\"$2" || :; }
is_told() { [ "$(told "$1" "$2")" = 1 ]; }

mkdir /etc/plumbline/rules
cp /opt/responses.yaml /etc/plumbline/rules/
printf 'responses: on\nrules: [/etc/plumbline/rules]\n' >>/etc/plumbline/agent.yaml
systemctl start plumbline-agent
until_true 300 plumbline-agent status
plumbline-agent status
plumbline-agent status | grep -q '(lsm)' || fail "not enforced by LSM"

systemctl start shop
[ "$(ask uname)" = ran ] || fail "uname did not run while learning"
until_true 120 shown /usr/bin/uname
plumbline-agent baseline show shop.service

plumbline-agent baseline promote shop.service --mode enforce --force smoke
[ "$(ask uname)" = ran ] || fail "a program of the baseline was stopped"
[ "$(ask id)" = failed ] || fail "id ran, which is not in the baseline"
grep -q 'Operation not permitted\|Permission denied' /run/shop/out || fail "id failed otherwise: $(cat /run/shop/out)"
one_alert() { [ "$(alerts)" = 1 ]; }
until_true 120 one_alert
[ "$(alerts)" = 1 ] || fail "$(alerts) alerts, want 1"
journalctl --no-pager -o cat -u plumbline-agent | grep -q 'spiffe://plumbline.local/node/guest/unit/shop.service' || fail "no SPIFFE ID"
id >/dev/null || fail "id outside of the unit was stopped"

# A rule has the unit started anew: by systemd, of which the agent's own unit may ask that.
before=$(systemctl show -p MainPID --value shop)
request whoami
until_true 120 is_told 'Workload restarted' 'taken: systemd has done it'
[ "$(systemctl show -p MainPID --value shop)" != "$before" ] || fail "the unit was not started anew"

# The mode outlives a restart of the agent. To stop a unit it needs more rights than its own unit has.
mkdir /etc/systemd/system/plumbline-agent.service.d
cp /opt/plumbline-agent-responses.conf /etc/systemd/system/plumbline-agent.service.d/responses.conf
systemctl daemon-reload
systemctl restart plumbline-agent
until_true 300 plumbline-agent status
[ "$(ask id)" = failed ] || fail "id ran after a restart of the agent"
systemctl show -p CapabilityBoundingSet plumbline-agent | grep cap_bpf | grep -q cap_kill || fail "capabilities: $(systemctl show -p CapabilityBoundingSet plumbline-agent)"

request logname
until_true 120 is_told 'Workload quarantined' 'taken: its processes are stopped until '
grep -q 'frozen 1' /sys/fs/cgroup/system.slice/shop.service/cgroup.events || fail "the unit was not stopped"
plumbline-agent release shop.service
until_true 120 test -e /run/shop/answer

# A unit that was ready, and fails after a denial, is only audited in that dimension: it can do its work again.
[ "$(ask id)" = failed ] || fail "id ran after the quarantine"
request 'exit 3'
until_true 60 systemctl is-failed shop
stepped_down() { [ "$(state shop.service softened)" = exec ]; }
until_true 60 stepped_down
plumbline-agent status | grep 'shop.service: denied something lately; whether it is ready: not ready: failed (failed): exit-code' || fail "status does not say why"
unready() { journalctl --no-pager -o cat -u plumbline-agent | grep -c '"rule":"Enforcement stepped down".*it was ready, and is not any more after denials (dimension=exec' || :; }
[ "$(unready)" = 1 ] || fail "$(unready) alerts about a unit that is not ready any more, want 1"
systemctl start shop
[ "$(ask id)" = ran ] || fail "id was stopped after its dimension had stepped down"
plumbline-agent mode set shop.service enforce
[ "$(ask id)" = failed ] || fail "id ran after the mode was set again"

# After a minute it has asked for all that it asks for now and then, and its unit has let it.
aged() { [ $(($(cut -d. -f1 /proc/uptime) * 1000000 - $(systemctl show -p ExecMainStartTimestampMonotonic --value plumbline-agent))) -gt 75000000 ]; }
until_true 120 aged
[ "$(systemctl show -p NRestarts --value plumbline-agent)" = 0 ] || fail "the agent was started again"
! journalctl --no-pager -o cat -u plumbline-agent | grep "look at the agent's own state" || fail "it may not look at its own state"

# Enforcement outlives the agent, and ends when somebody says so.
systemctl stop plumbline-agent
[ "$(systemctl is-failed plumbline-agent)" != failed ] || fail "the agent did not end cleanly"
[ "$(ask id)" = failed ] || fail "id ran after the agent had ended"
plumbline-agent unload
[ "$(ask id)" = ran ] || fail "the unit is still held after unload"
[ ! -e /sys/fs/bpf/plumbline ] || fail "left: $(find /sys/fs/bpf/plumbline)"
echo "installed, learnt, enforced, restarted, quarantined, healed, stopped, unloaded"
