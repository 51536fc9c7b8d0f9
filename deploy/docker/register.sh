#!/bin/sh
# Registers what docker compose runs, and starts its stream. Safe to run again.
set -eu
: "${CLUSTER:=demo}" "${INSTANCE:=demo-1}" "${KMS_KEY:=alias/weir}"

# The services come up in any order, and one that waits for another says so.
patiently() {
	tries=0
	until "$@" 2>/tmp/why; do
		tries=$((tries + 1))
		if [ "$tries" -ge 60 ]; then
			cat /tmp/why >&2
			exit 1
		fi
		sleep 1
	done
}

registered() {
	weir cluster list --json | grep -q "\"cluster_id\": *\"$CLUSTER\"" || weir cluster create "$CLUSTER" --engine postgres
	weir cluster show "$CLUSTER" --json | grep -q "\"instance_id\": *\"$INSTANCE\"" || weir instance add "$CLUSTER" "$INSTANCE"
}

patiently weir cluster list >/dev/null
patiently registered
patiently weir stream start --cluster "$CLUSTER" --kms-key "$KMS_KEY" --mode async >/dev/null
exec weir stream start --cluster "$CLUSTER" --kms-key "$KMS_KEY" --mode async --wait
