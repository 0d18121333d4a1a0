#!/usr/bin/env bash
# People recognised on this machine, none of whom exist: verifies pairs, starts a server on a temporary store, enrols
# twelve people, tells who is in a photo and in a group picture, and forgets one. Any other answer than the right one is a
# failure. Usage: scripts/demo.sh path/to/facematch
#
# FACEMATCH_PACK: another model pack. FACEMATCH_SAMPLES: other photos, people/NAME/*.jpg (two of each or more) and
# strangers/NAME/*.jpg; groups/*.jpg with groups.csv where there are such.
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/.."
root=$PWD

fail() { printf '\ndemo: %s\n' "$*" >&2; exit 1; }

# Relative ones were meant from here, and the demo works elsewhere.
samples=$(realpath -m "${FACEMATCH_SAMPLES:-models/samples}")
FACEMATCH_PACK=$(realpath -m "${FACEMATCH_PACK:-models/starter}")
FACEMATCH_PACK_FILES=$(realpath -m "${FACEMATCH_PACK_FILES:-$FACEMATCH_PACK}")
ORT_DYLIB_PATH=$(realpath -m "${ORT_DYLIB_PATH:-$root/.runtime/libonnxruntime.so}")
export FACEMATCH_PACK FACEMATCH_PACK_FILES ORT_DYLIB_PATH
[ -d "$FACEMATCH_PACK" ] || fail "no model pack at $FACEMATCH_PACK: set FACEMATCH_PACK"
[ -d "$samples/people" ] || fail "no photos at $samples/people/NAME/*.jpg: set FACEMATCH_SAMPLES"

folder=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server"; } || true
    rm -rf "$folder"
}
trap stop EXIT
cd "$folder"

# Each person's last photo is kept from the gallery, to ask about.
mkdir probes
cp -r "$samples/people" "$samples/strangers" .
for person in people/*/; do
    photos=("$person"*.jpg)
    mv "${photos[-1]}" "probes/$(basename "$person").jpg"
done
everybody=(people/*/)
known=$(basename "${everybody[0]}") other=$(basename "${everybody[1]}")
first=$(ls "people/$known"/* | head -1)
strangers=(strangers/*/*.jpg)
stranger=${strangers[0]}

step=0
say() { step=$((step + 1)); printf '\n%s. %s\n' "$step" "$*"; }

# Shows a command, runs it, shows what it says and how long that took, and fails if it does not begin with what is right.
expect() {
    local right=$1 started ended
    shift
    echo "\$ facematch $*"
    started=$(date +%s%N)
    said=$("$program" "$@" || [ $? -eq 1 ])
    ended=$(date +%s%N)
    printf '%s\n  in %s ms\n' "$said" $(((ended - started) / 1000000))
    [[ $said == "$right"* ]] || fail "expected: $right"
}

say "The same person? (The first time, the networks are made faster for this machine: some seconds.)"
expect "MATCH" verify --threshold 0.48 "$first" "probes/$known.jpg"
expect "NO MATCH" verify --threshold 0.48 "$first" "probes/$other.jpg"

say "A server, on a store of its own, and ${#everybody[@]} people enrolled."
echo "\$ facematch serve --listen 127.0.0.1:0 --data store &"
"$program" serve --listen 127.0.0.1:0 --data store > served.txt 2> log.txt &
server=$!
until grep -q serves served.txt; do
    kill -0 "$server" 2>/dev/null || { cat log.txt >&2; fail "the server did not start"; }
    sleep 0.1
done
cat served.txt
FACEMATCH_ENDPOINT=$(grep -o 'http://.*' served.txt)
export FACEMATCH_ENDPOINT
expect "demo" gallery create demo --threshold 0.42 --margin 0
photos=(people/*/*.jpg)
expect "${#photos[@]} photos of ${#everybody[@]} people: ${#photos[@]} enrolled" enroll --gallery demo people

say "Who is this? A photo of $known that the gallery has not seen, and a stranger."
expect "MATCH  $known" identify --gallery demo --top-k 3 "probes/$known.jpg"
expect "NO MATCH" identify --gallery demo --top-k 3 "$stranger"

if [ -f "$samples/groups.csv" ]; then
    cp -r "$samples/groups" "$samples/groups.csv" .
    picture=$(sed -n '2s/,.*//p' groups.csv)
    mapfile -t names < <(sed -n "s/^$picture,[0-9]*,//p" groups.csv)
    say "Who is in a group picture? From left to right: ${names[*]}. Not all of them are enrolled."
    expect "${#names[@]} faces" identify --gallery demo --every-face --each-once --top-k 1 "groups/$picture"
    # The answers from left to right.
    mapfile -t answers < <(sed -n 's/^at (\(-*[0-9]*\),.*)  /\1 /p' <<< "$said" | sort -n | cut -d' ' -f2-)
    for at in "${!names[@]}"; do
        right="NO MATCH"
        [ ! -d "people/${names[at]}" ] || right="MATCH  ${names[at]}"
        [ "${answers[at]}" = "$right" ] || fail "${names[at]}: expected $right, was told ${answers[at]}"
    done
fi

say "$known is deleted, and not found any more."
expect "deleted" identity delete --gallery demo "$known"
expect "NO MATCH" identify --gallery demo --top-k 3 "probes/$known.jpg"

printf '\nEvery answer was the right one. README.md tells the rest.\n'
