#!/usr/bin/env bash
# People recognised on this machine: starts a server on a temporary store, enrols people, verifies a pair, identifies a
# known and an unknown person, stops. Usage: scripts/demo.sh path/to/facematch
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/.."
root=$PWD

fail() { echo "demo: $*" >&2; exit 1; }

shared=$(realpath -m "${FACEMATCH_SHARED:-../shared}")
photos="$shared/faces/lfw/photos"
[ -d "$photos" ] || fail "no photos at $photos: set FACEMATCH_SHARED to a folder with faces/lfw/photos/NAME/*.jpg"
if [ -z "${FACEMATCH_PACK:-}" ]; then
    FACEMATCH_PACK="$root/tests/packs/scrfd25-edgeface-xs" FACEMATCH_PACK_FILES="$shared/models"
fi
# Relative ones were meant from here, and the demo works elsewhere.
FACEMATCH_PACK=$(realpath -m "$FACEMATCH_PACK")
FACEMATCH_PACK_FILES=$(realpath -m "${FACEMATCH_PACK_FILES:-$FACEMATCH_PACK}")
ORT_DYLIB_PATH=$(realpath -m "${ORT_DYLIB_PATH:-$root/.runtime/libonnxruntime.so}")
export FACEMATCH_PACK FACEMATCH_PACK_FILES ORT_DYLIB_PATH
[ -d "$FACEMATCH_PACK" ] || fail "no model pack at $FACEMATCH_PACK: set FACEMATCH_PACK"

folder=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server"; } || true
    rm -rf "$folder"
}
trap stop EXIT
cd "$folder"

# Twelve people with two photos each are enrolled; a third photo of one of them, and a photo of somebody else, are not.
mkdir people
known= stranger=
for person in "$photos"/*/; do
    name=$(basename "$person")
    of_person=("$person"*.jpg)
    [ ${#of_person[@]} -ge 3 ] || continue
    if [ "$(ls people | wc -l)" -eq 12 ]; then
        stranger=$name
        cp "${of_person[0]}" stranger.jpg
        break
    fi
    mkdir "people/$name"
    cp "${of_person[@]:0:2}" "people/$name"
    [ -n "$known" ] || { known=$name; cp "${of_person[2]}" known.jpg; }
done
[ -n "$stranger" ] || fail "$photos needs 13 people with three photos each"

# Shows a command, runs it, and accepts the exit codes of an answer: 0 yes, 1 no.
facematch() {
    printf '\n$ facematch %s\n' "$*"
    "$program" "$@" || [ $? -eq 1 ]
}

echo "-- Is this the same person? known.jpg is another photo of $known; stranger.jpg is $stranger."
facematch verify "people/$known/$(ls "people/$known" | head -1)" known.jpg
facematch verify "people/$known/$(ls "people/$known" | head -1)" stranger.jpg

printf '\n-- A server, on a store of its own.\n\n$ facematch serve --listen 127.0.0.1:0 --data store &\n'
"$program" serve --listen 127.0.0.1:0 --data store > served.txt 2> log.txt &
server=$!
until grep -q serves served.txt; do
    kill -0 "$server" 2>/dev/null || { cat log.txt >&2; fail "the server did not start"; }
    sleep 0.1
done
cat served.txt
FACEMATCH_ENDPOINT=$(grep -o 'http://.*' served.txt)
export FACEMATCH_ENDPOINT

printf '\n-- Twelve people, two photos each; %s is one of them, %s is not.\n' "$known" "$stranger"
facematch gallery create demo
facematch enroll --gallery demo people

printf '\n-- Who is this?\n'
facematch identify --gallery demo --top-k 3 known.jpg
facematch identify --gallery demo --top-k 3 stranger.jpg

# The answers themselves, so that a demo that recognises nobody, or the stranger, is a failure.
expect() {
    local answer
    answer=$("$program" identify --gallery demo "$1" --json || [ $? -eq 1 ])
    [[ $answer == *"\"IDENTIFY_DECISION_$2\""* ]] || fail "$3"
}
expect known.jpg MATCH "$known was not recognised"
expect stranger.jpg NO_MATCH "$stranger was taken for somebody"

printf '\n-- Deleted: not found any more.\n'
facematch identity delete --gallery demo "$known"
facematch identify --gallery demo --top-k 3 known.jpg
expect known.jpg NO_MATCH "$known was found after the deletion"

printf '\n-- Done. README.md tells the rest.\n'
