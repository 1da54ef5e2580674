# Debian's nginx as its package starts it: pages, a proxied backend, bodies and answers that need temporary
# files, log rotation, reload.
unit=nginx.service
denials=7 # the library is asked for by the check of the configuration, too

prepare() {
	echo "a page" >/var/www/html/index.html
	head -c 16000000 /dev/urandom >/var/www/html/large
	head -c 100000 /dev/urandom >/tmp/upload
	cat >/etc/nginx/sites-enabled/default <<-'END'
		server {
			listen 80 default_server;
			root /var/www/html;
			location /backend/ { proxy_pass http://127.0.0.1:8000/; }
		}
		server { listen 127.0.0.1:8000; root /var/www/html; }
	END
}

ready() { [ "$(curl -s http://127.0.0.1/)" = "a page" ]; }

exercise() {
	if [ "$1" -lt 9 ]; then
		answers 200 http://127.0.0.1/ && answers 404 "http://127.0.0.1/nothing-$1"
		answers 405 -d key=value http://127.0.0.1/
		uploads 2 && downloads 2 && many "$1" && reopen
	else
		reopen && many "$1" && downloads 3 && uploads 5
		answers 206 -H 'Range: bytes=10-20,30-40' http://127.0.0.1/large
		answers 404 "http://127.0.0.1/other/%2e%2e/$1" && answers 200 -I http://127.0.0.1/index.html
	fi
	systemctl reload nginx
	until_true 30 ready
}

answers() { # CODE ARGUMENTS...
	code=$1
	shift
	got=$(curl -s -o /dev/null -w '%{http_code}' "$@")
	[ "$got" = "$code" ] || { echo "nginx: $got, want $code: $*"; exit 1; }
}

uploads() { for i in $(seq "$1"); do answers 405 --data-binary @/tmp/upload http://127.0.0.1/backend/; done; }

# Slower than the backend, so that nginx keeps the rest in a file.
downloads() { for i in $(seq "$1"); do answers 200 --limit-rate 4M http://127.0.0.1/backend/large; done; }

many() { # connections at a time
	clients=
	for i in 1 2 3 4 5 6 7 8; do
		curl -sf "http://127.0.0.1/?$1=[1-10]" "http://127.0.0.1/backend/?$i" >/dev/null &
		clients="$clients $!"
	done
	for c in $clients; do wait "$c" || exit 1; done
}

reopen() {
	mv /var/log/nginx/access.log /var/log/nginx/access.log.1
	kill -USR1 "$(cat /run/nginx.pid)"
	until_true 30 test -e /var/log/nginx/access.log
}

attack() {
	denied www-data exec /bin/sh -c true
	denied root read /etc/shadow
	denied www-data connect 127.0.0.1 5432
	denied www-data map /opt/libinject.so
	denied www-data create /tmp/shell.php
	preload
	until_true 60 ready
}

stopped() {
	cat <<-END
		Exec outside baseline: /usr/bin/dash
		File access outside baseline: read /etc/shadow
		File access outside baseline: create /tmp/shell.php
		File access outside baseline: read /opt/libinject.so
		Library outside baseline: library /opt/libinject.so
		Network outside baseline: connect tcp 127.0.0.1 port 5432
	END
}
