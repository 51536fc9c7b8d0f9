#!/bin/sh
# Makes the data directory once, and runs the server with the module. What is
# said after the image's name is added to the server's own command line.
set -eu
bin=/usr/lib/postgresql/15/bin
if [ ! -s /data/PG_VERSION ]; then
	: "${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD, the password of the superuser postgres}"
	(umask 077 && echo "$POSTGRES_PASSWORD" >/tmp/password)
	"$bin/initdb" --pgdata /data --username postgres --auth-local trust --auth-host scram-sha-256 --pwfile /tmp/password --encoding UTF8
	rm /tmp/password
	echo "host all all all scram-sha-256" >>/data/pg_hba.conf
fi
exec "$bin/postgres" -D /data -c listen_addresses='*' -c unix_socket_directories=/tmp \
	-c shared_preload_libraries=weir -c weir.ring_file=/ring/weir.ring -c weir.ring_group=weir "$@"
