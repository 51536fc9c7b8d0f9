#!/bin/sh
# Installs what building, testing and the demo need, and only what is missing.
# May be run again at any time; says nothing where nothing is to be done.
set -eu
cd "$(dirname "$0")/.."

have() { command -v "$1" >/dev/null 2>&1; }

# The version of PostgreSQL: the one whose headers are there, else the
# distribution's own.
pg_major() {
	if [ -f "$(pg_config --pgxs 2>/dev/null)" ]; then
		pg_config --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'
		return
	fi
	apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1
}

packages=""
need() { packages="$packages $*"; }

have cc || need gcc libc6-dev
have make || need make
have git || need git
have aws || need awscli
have node || need nodejs
have npm || need npm
have jq || need jq
# The package that a test builds and unpacks.
have dpkg-shlibdeps || need dpkg-dev
have strip || need binutils

major=""
if have apt-get; then
	major=$(pg_major)
	: "${major:=15}"
	if ! [ -x "/usr/lib/postgresql/$major/bin/postgres" ]; then need "postgresql-$major"; fi
	if ! [ -f "$(pg_config --pgxs 2>/dev/null)" ]; then need "postgresql-server-dev-$major"; fi
	# pgaudit is what Weir is measured against.
	if ! [ -f "/usr/lib/postgresql/$major/lib/pgaudit.so" ]; then need "postgresql-$major-pgaudit"; fi
elif ! have postgres && ! [ -f "$(pg_config --pgxs 2>/dev/null)" ]; then
	need postgresql postgresql-server-headers pgaudit
fi

if [ -n "$packages" ]; then
	if ! have apt-get; then
		echo "setup: this system has no apt-get; install, under its own names:$packages" >&2
		exit 1
	fi
	as_root=""
	if [ "$(id -u)" -ne 0 ]; then
		if have sudo && sudo -n true 2>/dev/null; then
			as_root="sudo"
		elif have sudo && [ -t 0 ]; then
			echo "setup: installing$packages" >&2
			as_root="sudo"
		else
			echo "setup: not permitted to install packages; run, as root:" >&2
			echo "  apt-get update && apt-get install --yes --no-install-recommends$packages" >&2
			exit 1
		fi
	fi
	# Debian's packages would start a server of their own, on the usual port.
	if ! [ -e /etc/postgresql-common/createcluster.conf ]; then
		$as_root mkdir -p /etc/postgresql-common
		echo "create_main_cluster = false" | $as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
	fi
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	# shellcheck disable=SC2086 # a list of words
	if ! { $as_root apt-get -qq update && $as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq install --yes --no-install-recommends -o Dpkg::Options::=--force-confold $packages; } >"$log" 2>&1; then
		cat "$log" >&2
		echo "setup: apt-get could not install$packages" >&2
		exit 1
	fi
	echo "setup: installed$packages"
fi

# The JavaScript clients that the interop tests hold Weir against.
for lock in deploy/e2e/*/js/package-lock.json; do
	[ -f "$lock" ] || continue
	dir=$(dirname "$lock")
	if [ "$dir/node_modules/.package-lock.json" -nt "$lock" ]; then continue; fi
	(cd "$dir" && flock package-lock.json npm ci --silent --no-audit --no-fund)
	touch "$dir/node_modules/.package-lock.json"
	echo "setup: installed the npm packages of $dir"
done
