#!/usr/bin/env bash
# What a photo costs facematch (BulkEnroll, durable, over loopback) and InsightFace's Python library, on the same model
# files, photos and scales, in rounds that take turns. FACEMATCH_SHARED names the folder of models and photos; PHOTOS and
# ROUNDS are how many; FOLDER is where the Python packages are installed.
set -euo pipefail
cd "$(dirname "$0")/.."

shared=$(realpath "${FACEMATCH_SHARED:-../shared}")
folder=$(realpath -m "${FOLDER:-target/insightface}")
[ -d "$shared/models" ] || { echo "no models and photos at $shared: set FACEMATCH_SHARED" >&2; exit 1; }

if ! cmp -s benches/insightface_requirements.txt "$folder/requirements.txt"; then
    python3 -m venv --clear "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check -r benches/insightface_requirements.txt
    cp benches/insightface_requirements.txt "$folder/requirements.txt"
fi
program=$(cargo build --locked --profile bench --bench throughput --message-format=json |
    sed -n 's/.*"name":"throughput".*"executable":"\([^"]*\)".*/\1/p')
exec env THROUGHPUT="$program" FACEMATCH_SHARED="$shared" "$folder/bin/python" benches/insightface_compare.py "$@"
