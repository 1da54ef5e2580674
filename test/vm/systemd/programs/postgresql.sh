# Debian's PostgreSQL as its package sets it up and starts it: tables, vacuum, checkpoint, a copy on the
# server's disk, clients over a Unix socket and over TCP, sorting on disk, parallel workers.
unit=postgresql@15-main.service
denials=5

prepare() {
	systemctl start $unit
	until_true 120 ready
	sql "ALTER USER postgres PASSWORD 'secret'"
	# So that each run makes files of its log: recycled ones, whether there are some or not, are a matter of chance.
	sql "ALTER SYSTEM SET wal_recycle = off"
	mkdir -p /var/lib/postgresql/backup
	chown postgres /var/lib/postgresql/backup
}

sql() { (cd / && runuser -u postgres -- psql -qAtX -v ON_ERROR_STOP=1 -c "$1") || { echo "postgresql: $1"; exit 1; }; }

over_tcp() { PGPASSWORD=secret psql -qAtX -h 127.0.0.1 -U postgres -c "$1" postgres || { echo "postgresql: $1"; exit 1; }; }

ready() { [ "$(cd / && runuser -u postgres -- psql -qAtXc 'SELECT 1')" = 1 ]; }

exercise() {
	table="orders_$1"
	sql "CREATE TABLE $table (id serial PRIMARY KEY, name text, price numeric)"
	sql "INSERT INTO $table (name, price) SELECT md5(i::text), i % 97 FROM generate_series(1, 20000) i"
	if [ "$1" -lt 9 ]; then
		[ "$(over_tcp "SELECT count(*) FROM $table")" = 20000 ] || exit 1
		sql "CREATE INDEX ON $table (name)"
		sql "SET work_mem = '64kB'; SELECT name FROM $table ORDER BY price, name OFFSET 19999" >/dev/null
		upkeep "$table"
		sql "COPY $table TO '/var/lib/postgresql/backup/$table-$(date +%s).csv'"
	else
		sql "COPY $table TO '/var/lib/postgresql/backup/$table-$(date +%s).csv'"
		sql "SET work_mem = '64kB'; SELECT price FROM $table ORDER BY name OFFSET 19000" >/dev/null
		over_tcp "DELETE FROM $table WHERE price > 50"
		upkeep "$table"
		sql "CREATE INDEX ON $table (price, name)"
		sql "CREATE TABLE copied AS SELECT * FROM $table"
		sql "DROP TABLE copied"
	fi
	sql "TRUNCATE $table"
	sql "DROP TABLE $table"
}

upkeep() {
	sql "UPDATE $1 SET price = price + 1 WHERE id % 3 = 0"
	sql "VACUUM FULL ANALYZE $1"
	sql "CHECKPOINT"
	sql "SELECT pg_switch_wal(), pg_reload_conf()" >/dev/null
}

attack() {
	# What COPY ... PROGRAM is misused for, through the front door. By its path: a shell that looks for a name
	# would try it in /bin, too, which is the same directory.
	if (cd / && runuser -u postgres -- psql -qAtXc "COPY (SELECT 1) TO PROGRAM '/usr/bin/uname'") 2>/dev/null; then
		echo "postgresql: the program ran"
		exit 1
	fi
	if (cd / && runuser -u postgres -- psql -qAtXc "SELECT pg_read_file('/etc/debian_version')") 2>/dev/null; then
		echo "postgresql: the file was read"
		exit 1
	fi
	if (cd / && runuser -u postgres -- psql -qAtXc "LOAD '/opt/libinject.so'") 2>/dev/null; then
		echo "postgresql: the library was loaded"
		exit 1
	fi
	denied postgres connect 127.0.0.1 80
	denied postgres map /opt/libinject.so
}

stopped() {
	cat <<-END
		Exec outside baseline: /usr/bin/uname
		File access outside baseline: read /etc/debian_version
		File access outside baseline: read /opt/libinject.so
		Library outside baseline: library /opt/libinject.so
		Network outside baseline: connect tcp 127.0.0.1 port 80
	END
}
