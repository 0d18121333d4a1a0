#!/usr/bin/env bash
# Builds with Debian's packages in place of Maven's, and runs. Usage: debian.sh ADDRESS GALLERY PHOTO PHOTO
# apt-get install default-jdk-headless libgrpc-java libprotobuf-java libnetty-java libperfmark-java \
#     libgeronimo-annotation-1.3-spec-java protobuf-compiler protobuf-compiler-grpc-java-plugin
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$here/target/debian jars=/usr/share/java
classpath=$out/classes$(printf ':%s' "$jars"/{grpc-{api,context,core,netty,protobuf,protobuf-lite,stub},protobuf,guava}.jar \
    "$jars"/netty-{buffer,codec{,-http,-http2},common,handler,resolver,transport,transport-native-unix-common}.jar \
    "$jars"/{perfmark-api,opencensus-api,geronimo-annotation-1.3-spec}.jar)
if [ ! -d "$out/classes" ]; then
    mkdir -p "$out/stubs" "$out/classes"
    # google.rpc has no package of Debian's: its two files are compiled along.
    (cd "$here" && protoc -I ../../../proto -I ../proto --java_out="$out/stubs" --grpc-java_out="$out/stubs" \
        --plugin=protoc-gen-grpc-java="$(command -v grpc_java_plugin)" ../../../proto/facematch/v1/*.proto ../proto/google/rpc/*.proto)
    find "$out/stubs" "$here/src" -name '*.java' -print0 | xargs -0 javac -nowarn -d "$out/classes" -cp "$classpath"
fi
exec java -cp "$classpath" example.Client "$@"
