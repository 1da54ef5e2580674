# A service of the JVM, with a log of its collector that has another name in each run.
unit=till.service
denials=10 # the JVM tries twice to open its door, and looks twice at what it cannot load

prepare() {
	useradd --system till
	install -d -o till /var/log/till /var/lib/till
}

ready() { asked 42 price; }

asked() { # ANSWER PATH [BODY]
	got=$(curl -s ${3:+-d "$3"} "http://127.0.0.1:8080/$2")
	[ "$got" = "$1" ] || { echo "till: $2: $got, want $1"; return 1; }
}

must() { "$@" || exit 1; }

exercise() {
	if [ "$1" -lt 9 ]; then
		for i in 1 2 3; do must asked 42 price; done
		must asked collected collect
		must asked stored order "coffee $1"
		must asked stored order "tea $1"
		must asked failed "load?/opt/nothing.so"
	else
		must asked stored order "cake"
		for i in 1 2 3 4 5; do must asked 42 "price?$i"; done
		must asked stored order "juice"
		for i in 1 2 3; do must asked collected collect; done
		must asked failed "load?/opt/nothing.so"
	fi
}

# The three ways into a JVM: as its tracer, by the Attach API, as its library.
attack() {
	pid=$(systemctl show -p MainPID --value $unit)
	sysctl -q kernel.yama.ptrace_scope=0
	for deed in ptrace poke memory; do denied till $deed "$pid"; done
	must asked 42 price

	denied till create "/tmp/.attach_pid$pid"
	# From without, where nobody is held: the JVM itself may not open its door.
	runuser -u till -- touch "/tmp/.attach_pid$pid"
	kill -QUIT "$pid"
	until_true 60 reported "create /tmp/.java_pidN.tmp"
	[ ! -e "/tmp/.java_pid$pid" ] || { echo "till: the Attach API is open"; exit 1; }
	must asked 42 price

	denied till map /opt/libinject.so
	must asked failed "load?/opt/libinject.so"
	must asked 42 price
	preload
	until_true 120 ready
}

stopped() {
	cat <<-END
		File access outside baseline: create /tmp/.attach_pidN
		File access outside baseline: create /tmp/.java_pidN.tmp
		File access outside baseline: read /opt/libinject.so
		File access outside baseline: write /proc/[pid]/mem
		Library outside baseline: library /opt/libinject.so
		Privilege outside baseline: ptrace attach
	END
}
