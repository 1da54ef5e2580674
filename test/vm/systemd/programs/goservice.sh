# The service of the demo, in Go: TLS, a garbage collector, a program that it starts.
unit=teller.service
denials=7

prepare() {
	useradd --system teller
	install -d -o teller /var/lib/teller
	(
		cd /var/lib/teller
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ca -keyout ca.key -out ca.pem 2>/dev/null
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=teller -keyout server.key -out server.csr 2>/dev/null
		openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem 2>/dev/null
		chown teller server.key
	)
}

asked() { curl -sk "https://127.0.0.1:8443/$1"; }

ready() { [ "$(asked balance)" = "balance: 42" ]; }

must() { [ "$("$@")" = "$want" ] || { echo "teller: $*: want $want"; exit 1; }; }

exercise() {
	want=Linux
	if [ "$1" -lt 9 ]; then
		must asked report
		curl -sk -X POST https://127.0.0.1:8443/collect
		for i in 1 2 3; do ready || exit 1; done
	else
		# It is systemd that becomes the user, before there is a service.
		if plumbline-agent baseline show $unit | grep 'use: setuid'; then exit 1; fi
		for i in 1 2 3 4 5; do ready || exit 1; done
		many
		curl -sk -X POST https://127.0.0.1:8443/collect
		must asked "report?$1"
		curl -sk --http1.1 https://127.0.0.1:8443/balance >/dev/null
	fi
}

many() {
	clients=
	for i in 1 2 3 4; do
		curl -sk "https://127.0.0.1:8443/report?[1-3]" >/dev/null &
		clients="$clients $!"
	done
	for c in $clients; do wait "$c" || exit 1; done
}

attack() {
	want="fork/exec /bin/sh: operation not permitted"
	must asked "search?q=x;id"
	install -m 755 /bin/true /var/lib/teller/plugin
	want="fork/exec /var/lib/teller/plugin: operation not permitted"
	must asked plugin
	denied teller read /etc/debian_version
	denied teller connect 127.0.0.1 80
	denied teller ptrace "$(systemctl show -p MainPID --value $unit)"
	denied teller map /opt/libinject.so
	denied teller create /tmp/dropped
}

stopped() {
	cat <<-END
		Exec outside baseline: /usr/bin/dash
		Exec outside baseline: /var/lib/teller/plugin
		File access outside baseline: create /tmp/dropped
		File access outside baseline: read /etc/debian_version
		Library outside baseline: library /opt/libinject.so
		Network outside baseline: connect tcp 127.0.0.1 port 80
		Privilege outside baseline: ptrace attach
	END
}
