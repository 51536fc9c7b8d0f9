#!/bin/sh
# Makes the Debian packages: the engine module for the PostgreSQL of PG_CONFIG,
# the command line, and a package for each service with its systemd unit.
#
#   deploy/debian/build.sh OUT BIN [PACKAGE…]
#
# OUT is where the packages go, BIN where the Go programs were built. VERSION is
# the packages' version. Needs dpkg-dev, binutils and the server's headers.
set -eu
out=$1 bin=$2
shift 2
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/deploy/debian
: "${PG_CONFIG:=pg_config}" "${VERSION:=$(sed -n 's/^weir (\(.*\)) .*/\1/p' "$here/changelog" | head -n 1)}"
: "${SOURCE_DATE_EPOCH:=$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
major=$("$PG_CONFIG" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
arch=$(dpkg --print-architecture)
services="capture control crypto notifier publisher"
all="postgresql-$major-weir weir $(for s in $services; do printf 'weir-%s ' "$s"; done)"
[ $# -gt 0 ] || set -- $all
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

summary_of() {
	case $1 in
	capture) echo "reads what the engine module writes, and sends it on" ;;
	control) echo "keeps which clusters are recorded" ;;
	crypto) echo "seals records and puts them into the journal" ;;
	notifier) echo "tells when the audit starts, stops or is interrupted" ;;
	publisher) echo "moves sealed records from the journal to Kinesis" ;;
	esac
}

# unit SERVICE: the unit of a service.
unit() {
	after="" extra="" devices=yes
	if [ "$1" = capture ]; then
		after=" postgresql.service"
		# The ring is in /dev/shm, which a private /dev would share as well, but
		# a ring elsewhere under /dev it would not.
		devices=no
		extra="SupplementaryGroups=weir
DevicePolicy=closed
ReadWritePaths=/dev/shm
"
	fi
	sed -e "s|@SERVICE@|$1|g" -e "s|@SUMMARY@|$(summary_of "$1")|" -e "s|@AFTER@|$after|" -e "s|@PRIVATE_DEVICES@|$devices|" "$here/service.in" |
		while IFS= read -r line; do
			if [ "$line" = "@EXTRA@" ]; then printf '%s\n' "$extra"; else printf '%s\n' "$line"; fi
		done
}

# finish PACKAGE DEPENDS SUMMARY DESCRIPTION: control data, documents, the archive.
finish() {
	stage=$work/$1
	doc=$stage/usr/share/doc/$1
	mkdir -p "$doc" "$stage/DEBIAN"
	cp "$here/copyright" "$doc/copyright"
	gzip -9nc "$here/changelog" >"$doc/changelog.gz"
	if [ -d "$stage/etc" ]; then (cd "$stage" && find etc -type f | sed 's|^|/|' >DEBIAN/conffiles); fi
	(cd "$stage" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
	cat >"$stage/DEBIAN/control" <<-EOF
		Package: $1
		Source: weir
		Version: $VERSION
		Architecture: $arch
		Maintainer: The Weir authors <weir@weir-das.invalid>
		Installed-Size: $(du -sk --apparent-size "$stage" | cut -f1)
		Depends: $2
		Section: database
		Priority: optional
		Homepage: https://github.com/weir-das/weir
		Description: $3
		$(printf '%s\n' "$4" | fold -s -w 76 | sed -e 's/ *$//' -e 's/^/ /')
	EOF
	dpkg-deb -Zxz -z1 --root-owner-group --build "$stage" "$out/${1}_${VERSION}_$arch.deb" >/dev/null
	echo "$out/${1}_${VERSION}_$arch.deb"
}

# overrides PACKAGE TAG…: what lintian is told is meant so.
overrides() {
	mkdir -p "$work/$1/usr/share/lintian/overrides"
	for tag in "$@"; do [ "$tag" = "$1" ] || echo "$1: $tag"; done >"$work/$1/usr/share/lintian/overrides/$1"
}

# account PACKAGE LINES: system users by systemd's own way, made when the package is configured.
account() {
	mkdir -p "$work/$1/usr/lib/sysusers.d" "$work/$1/DEBIAN"
	printf '%s\n' "$2" >"$work/$1/usr/lib/sysusers.d/$1.conf"
	cat >"$work/$1/DEBIAN/postinst" <<-EOF
		#!/bin/sh
		set -e
		if [ "\$1" = configure ]; then
			systemd-sysusers $1.conf
		fi
	EOF
	chmod 755 "$work/$1/DEBIAN/postinst"
}

module() {
	stage=$work/$1
	# A copy: the objects of another server's build are not to be touched.
	mkdir -p "$work/src" "$stage/DEBIAN"
	cp -R "$root/services/capture/engine/postgres" "$root/services/capture/engine/ring" "$work/src/"
	make -s -C "$work/src/postgres" PG_CONFIG="$PG_CONFIG" clean
	make -s -C "$work/src/postgres" PG_CONFIG="$PG_CONFIG"
	make -s -C "$work/src/postgres" PG_CONFIG="$PG_CONFIG" DESTDIR="$stage" install
	so=$stage$("$PG_CONFIG" --pkglibdir)/weir.so
	strip --strip-unneeded "$so"
	chmod 644 "$so"
	# dpkg-shlibdeps wants a debian/control to stand beside.
	mkdir -p "$work/deps/debian" && printf 'Source: weir\n\nPackage: %s\nArchitecture: any\n' "$1" >"$work/deps/debian/control"
	depends=$(cd "$work/deps" && dpkg-shlibdeps -O --ignore-missing-info "$so" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
	[ -n "$depends" ] || depends=libc6
	account "$1" "g weir -
m postgres weir"
	finish "$1" "$depends, postgresql-$major, systemd | systemd-standalone-sysusers" "database activity stream for PostgreSQL: the engine module" \
		"Loaded through shared_preload_libraries, it writes an event for every statement, login and error into a ring in memory, which weir-capture reads. Takes effect when the server is restarted."
}

program() {
	install -D -m 755 "$bin/$2" "$work/$1/usr/bin/$1"
	strip --strip-unneeded "$work/$1/usr/bin/$1"
}

service() {
	program "weir-$1" "$1"
	stage=$work/weir-$1
	account "weir-$1" "$([ "$1" != capture ] || echo 'g weir -')
u weir-$1 - \"Weir $1\" /nonexistent
$([ "$1" != capture ] || echo 'm weir-capture weir')"
	sed -i '/^$/d' "$stage/usr/lib/sysusers.d/weir-$1.conf"
	mkdir -p "$stage/usr/lib/systemd/system" "$stage/usr/share/doc/weir-$1/examples"
	unit "$1" >"$stage/usr/lib/systemd/system/weir-$1.service"
	cp "$root/deploy/config/$1.yaml" "$stage/usr/share/doc/weir-$1/examples/"
	# Not started until it is configured: the unit asks for /etc/weir/SERVICE.yaml.
	cat >>"$stage/DEBIAN/postinst" <<-EOF
		if [ "\$1" = configure ] && [ -d /run/systemd/system ]; then
			systemctl daemon-reload
			systemctl try-restart weir-$1.service
		fi
	EOF
	cat >"$stage/DEBIAN/prerm" <<-EOF
		#!/bin/sh
		set -e
		if [ "\$1" = remove ] && [ -d /run/systemd/system ]; then
			systemctl stop weir-$1.service
		fi
	EOF
	chmod 755 "$stage/DEBIAN/prerm"
	overrides "weir-$1" "statically-linked-binary [usr/bin/weir-$1]" "no-manual-page [usr/bin/weir-$1]" "hardening-no-pie [usr/bin/weir-$1]" "maintainer-script-calls-systemctl *"
	finish "weir-$1" "systemd, ca-certificates" "database activity stream: $1" \
		"This service of Weir $(summary_of "$1"). Its configuration is /etc/weir/$1.yaml, an example of which is in its documents; it starts once that is there."
}

command_line() {
	program weir weir
	overrides weir "statically-linked-binary [usr/bin/weir]" "no-manual-page [usr/bin/weir]" "hardening-no-pie [usr/bin/weir]"
	finish weir "ca-certificates" "database activity stream: the command line" \
		"Starts and stops streams, reads and verifies them, and lists the events of the audit itself."
}

for package in "$@"; do
	case $package in
	postgresql-*-weir) module "$package" ;;
	weir) command_line ;;
	weir-*) service "${package#weir-}" ;;
	*) echo "deploy/debian/build.sh: no package is called $package; there are: $all" >&2 && exit 2 ;;
	esac
done
