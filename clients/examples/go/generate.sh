#!/usr/bin/env bash
# Makes the stubs. protoc, protoc-gen-go and protoc-gen-go-grpc are on the PATH.
set -euo pipefail
cd "$(dirname "$0")"
proto=../../../proto
files=("$proto"/facematch/v1/*.proto)
# The contract names no Go package, since that is the caller's: it is named here.
options=()
for file in "${files[@]}"; do
    for plugin in go go-grpc; do
        options+=("--${plugin}_opt=M${file#"$proto"/}=facematch.example/client/stubs")
    done
done
mkdir -p stubs
protoc -I "$proto" --go_out=. --go-grpc_out=. --go_opt=module=facematch.example/client \
    --go-grpc_opt=module=facematch.example/client "${options[@]}" "${files[@]}"
