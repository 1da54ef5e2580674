#!/bin/sh
# How the benchmark in a VM works with the agent under test. Another agent gets beside ours with a script
# like this one: see "make bench" in HACKING.md. It is called with one word, in the agent's own cgroup;
# SCOPE is the directory of the loads' cgroup. What it starts must not keep its output open.
set -e
agent=/opt/bench/plumbline-agent
socket=/run/bench-agent.sock
state=/var/lib/bench-agent

case $1 in
start) # returns when the agent watches
	$agent run --state-dir $state --socket $socket --on-stop release --log-level warn --node bench \
		>/run/bench-agent.log 2>&1 &
	echo $! >/run/bench-agent.pid
	until $agent status --socket $socket >/dev/null 2>&1; do
		kill -0 "$(cat /run/bench-agent.pid)" || { cat /run/bench-agent.log >&2; exit 1; }
		sleep 0.2
	done
	;;
hold) # every load has run once: what they did is allowed from now on, and all else denied
	$agent baseline promote "${SCOPE#/sys/fs/cgroup}" --mode enforce --force bench --socket $socket
	;;
report) # the agent's own numbers, as JSON
	$agent status --socket $socket -o json
	;;
stop) # returns when it has let go of everything
	pid=$(cat /run/bench-agent.pid)
	kill "$pid"
	while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
	rm -rf $state
	;;
esac
