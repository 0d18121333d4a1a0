#!/usr/bin/env bash
# Half an hour of mixed calls against a server of its own; prints its resident memory each minute, and at the end how much it
# grew after the first three minutes.
#
#   scripts/soak.sh PROGRAM [MINUTES]
#
# Settings are those of the environment (FACEMATCH_PACK, FACEMATCH_PACK_FILES, …). PHOTOS names a folder of photos.
set -euo pipefail
program=${1:?"usage: scripts/soak.sh PROGRAM [MINUTES]"}
minutes=${2:-30}
photos=${PHOTOS:-${FACEMATCH_SHARED:-../shared}/faces/lfw/photos}
rate=${RATE:-60}
data=$(mktemp -d)
server=
load=
finish() {
    [ -z "$load" ] || kill "$load" 2>/dev/null || true
    [ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
    rm -rf "$data"
}
trap finish EXIT

"$program" serve --listen 127.0.0.1:0 --data "$data/store" --log warn > "$data/address" &
server=$!
until grep -qs http "$data/address"; do
    kill -0 "$server" || { echo "the server did not start" >&2; exit 2; }
    sleep .2
done
export FACEMATCH_ENDPOINT
FACEMATCH_ENDPOINT=$(grep -o 'http://.*' "$data/address")

# Searches by embedding and by photo, enrolments; 20,000 people to begin with.
"$program" load mixed --synthetic 20000 --photos "$photos" --rate "$rate" --duration $((minutes * 60)) --warm-up 5 \
    --report "$data/report.html" > "$data/load" &
load=$!
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$server/status"; }
first=
highest=0
for minute in $(seq 1 "$minutes"); do
    sleep 60
    kib=$(resident)
    echo "minute $minute: $((kib / 1024)) MiB"
    if [ "$minute" -eq 3 ]; then first=$kib; fi
    if [ "$minute" -gt 3 ] && [ "$kib" -gt "$highest" ]; then highest=$kib; fi
done
wait "$load" || echo "some calls failed"
load=
cat "$data/load"
[ -z "$first" ] || echo "resident after three minutes $((first / 1024)) MiB, highest since $((highest / 1024)) MiB"
