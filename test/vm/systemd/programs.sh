# Real programs, each learnt over runs of an exercise until its baseline is ready, then held to it in all
# dimensions over another run of the exercise without a denial, then attacked.
#
# A program is a file in /opt/programs, which defines
#   unit       its unit
#   prepare    what has to be there before it is learnt
#   ready      whether it answers
#   exercise N what it is used for; from run 9 on in another way than while it is learnt
#   attack     what somebody does who is in, with the program working on
#   denials    how many denials the attack must lead to
#   stopped    what must be reported of them, and nothing else
set -eu
. /opt/lib.sh

programs=${*:-$(cat /opt/programs/chosen)}
runs_at_most=5
unit=

# of PROGRAM FUNCTION...: in a shell of its own, so that programs do not meet.
of() (
	. "/opt/programs/$1.sh"
	shift
	"$@"
)

begin() {
	systemctl restart "$(of "$1" printunit)"
	until_true 300 of "$1" ready
}

printunit() { echo "$unit"; }
count() { echo "$denials"; }

not_held() {
	echo "--- baseline"
	plumbline-agent baseline show "$1" | sed '/^observed:/,$d'
	echo "--- denials"
	denies "$1"
	fail "$2"
}

systemctl start plumbline-agent
until_true 600 plumbline-agent status
plumbline-agent status | grep -q '(lsm)' || fail "not enforced by LSM"
for p in $programs; do
	of "$p" prepare
done

run=1
waiting=$programs
while [ -n "$waiting" ]; do
	[ $run -le $runs_at_most ] || fail "not ready after $runs_at_most runs:$waiting"
	for p in $waiting; do
		begin "$p"
		of "$p" exercise $run || fail "$p: exercise $run"
	done
	still=
	for p in $waiting; do
		u=$(of "$p" printunit)
		if refusal=$(plumbline-agent baseline promote "$u" --mode enforce 2>&1); then
			echo "$p: ready after $run runs, $(state "$u" entries) entries, held: $(state "$u" held)"
			[ "$(state "$u" held)" = "exec library file unix network privilege" ] || fail "$p: not all dimensions are held"
		else
			echo "$p: run $run: $refusal"
			still="$still $p"
		fi
	done
	waiting=$still
	run=$((run + 1))
done

for p in $programs; do
	begin "$p"
	of "$p" exercise 9 || not_held "$(of "$p" printunit)" "$p: it does not work under enforcement"
done
for p in $programs; do
	u=$(of "$p" printunit)
	[ "$(state "$u" mode)" = enforce ] || fail "$p: mode is $(state "$u" mode)"
	[ "$(state "$u" denied) $(state "$u" audited)" = "0 0" ] || not_held "$u" "$p: $(state "$u" denied) denials, want 0"
	echo "$p: another run under enforcement, $(state "$u" hits) lookups, 0 denials"
done

for p in $programs; do
	u=$(of "$p" printunit)
	of "$p" attack || fail "$p: attack"
	of "$p" stopped | sort >/tmp/want
	same() { denies "$u" >/tmp/got && cmp -s /tmp/got /tmp/want; }
	limit=$(($(date +%s) + 60))
	until same || [ "$(date +%s)" -ge "$limit" ]; do sleep 0.2; done
	same || { diff /tmp/want /tmp/got || :; fail "$p: other denials than expected"; }
	of "$p" ready || fail "$p: it does not work any more"
	[ "$(state "$u" denied)" = "$(of "$p" count)" ] || fail "$p: $(state "$u" denied) denials, want $(of "$p" count)"
	[ -z "$(state "$u" softened)" ] || fail "$p: stepped down"
	echo "$p: $(wc -l </tmp/want) attacks met $(state "$u" denied) denials, it works on"
done
[ ! -e /tmp/injected ] || fail "the library was loaded: $(cat /tmp/injected)"
