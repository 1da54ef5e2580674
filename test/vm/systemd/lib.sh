# Shared by the scripts that run in the systemd guest. $unit is the unit that they are about.

fail() {
	echo "FAIL: $*"
	systemctl status --no-pager plumbline-agent ${unit:+"$unit"} || :
	journalctl --no-pager -u plumbline-agent | tail -n 30 || :
	exit 1
}

# until_true SECONDS COMMAND...: waits for a condition.
until_true() {
	limit=$(($(date +%s) + $1))
	shift
	pause=0.1
	while ! "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$limit" ] || fail "waited for: $*"
		sleep $pause # the one processor is needed by what is waited for
		pause=0.5
	done
}

# denies UNIT: what was reported as denied, as "RULE: KEY", sorted, each once: whether a repetition is told
# depends on the time between. A process id is no part of what is compared.
denies() {
	journalctl --no-pager -o cat -u plumbline-agent | name=$1 perl -MJSON::PP -ne '
		next unless /^\{/;
		my $a = eval { decode_json($_) } or next;
		my $p = $a->{plumbline} or next;
		next unless $p->{verdict} eq "deny" && $p->{workload} eq $ENV{name};
		next unless $p->{key}; # a rule about other alerts
		$p->{key} =~ s/pid\d+/pidN/;
		print "$a->{rule}: $p->{key}\n"' | sort -u
}

# state UNIT FIELD: of the agent's status.
state() {
	plumbline-agent status -o json | name=$1 field=$2 perl -MJSON::PP -0777 -ne '
		for (@{decode_json($_)->{workloads}}) {
			next unless $_->{name} eq $ENV{name};
			my $v = $_->{$ENV{field}};
			print ref $v ? join(" ", @$v) : $v // "", "\n";
		}'
}

# reported KEY: whether the program at hand was denied it.
reported() { denies "$unit" | grep -qF ": $1"; }

# denied USER DEED...: the deed, done by somebody in the cgroup of the program at hand, is refused.
denied() {
	user=$1
	shift
	cgroup=/sys/fs/cgroup$(systemctl show -p ControlGroup --value "$unit")
	got=$(/opt/intruder -cgroup "$cgroup" -user "$user" "$@" 2>&1) || :
	[ "$got" = "operation not permitted" ] || fail "$unit: $*: $got"
}

# preload: restarts the program at hand with a library that is not its own.
preload() {
	mkdir -p "/run/systemd/system/$unit.d"
	printf '[Service]\nEnvironment=LD_PRELOAD=/opt/libinject.so\n' >"/run/systemd/system/$unit.d/preload.conf"
	systemctl stop "$unit"
	systemctl daemon-reload
	systemctl start "$unit"
}
