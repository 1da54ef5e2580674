# Debian's cron with a job in shell that writes a file each minute and keeps the last one.
unit=cron.service
denials=6

prepare() {
	cat >/opt/report <<-'END'
		#!/bin/sh
		cd /var/lib/report || exit 1
		new=$(mktemp report.XXXXXX)
		{ date; df / | tail -n 1; } >"$new"
		mv "$new" "report-$(date +%s)"
		ls -t | tail -n +2 | xargs -r rm --
	END
	chmod 755 /opt/report
	mkdir -p /var/lib/report
	echo "* * * * * root /opt/report" >/etc/cron.d/report
}

ready() { systemctl is-active cron; }

exercise() { worked; }

# A report that is newer than now. cron works at the begin of a minute.
worked() {
	touch /tmp/before
	sleep 1
	until_true 90 newer
}

newer() { [ -n "$(find /var/lib/report -newer /tmp/before -name 'report-*')" ]; }

attack() {
	denied root exec /usr/bin/id
	denied root read /etc/shadow-
	denied root connect 127.0.0.1 80
	denied root create /etc/cron.d/more
	# The job itself is changed: what it did until now it may do, the rest not.
	cat >/opt/report <<-'END'
		#!/bin/sh
		id >/tmp/who
		/usr/bin/cp /bin/true /var/lib/report/report-true
		date >/var/lib/report/report-0
	END
	worked
}

stopped() {
	cat <<-END
		Exec outside baseline: /usr/bin/cp
		Exec outside baseline: /usr/bin/id
		File access outside baseline: create /etc/cron.d/more
		File access outside baseline: create /tmp/who
		File access outside baseline: read /etc/shadow-
		Network outside baseline: connect tcp 127.0.0.1 port 80
	END
}
