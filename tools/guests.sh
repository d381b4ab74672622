#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the guests of tests/guests into build/guests: demo, true and attack as static native programs, demo
# and (with Go) hello as WASI modules, a module with its library, text modules as they are, and components where Rust has wasm32-wasip2.
. "$(dirname "$0")/lib.sh"
out=$top/build/guests
go_version=$(go version 2>/dev/null || echo none)
has_wasip2() { [ -d "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/wasm32-wasip2" ]; }
rust=$(has_wasip2 && rustc --version || echo none)
key=$(content_hash tests/guests/component tests/guests/component3 tests/guests/linked tests/guests/*.wat tests/guests/attack.c tests/guests/inject.c tests/guests/demo.c tests/guests/linked.c tests/guests/math.c tests/guests/*.go tests/guests/true.c tests/guests/hello.go tools/guests.sh)-${go_version// /-}-${rust// /-}
if stamped "guests-${top//\//_}" "$key" && [ -e "$out/demo.wasm" ]; then exit 0; fi
say "building the guest programs (native, wasm$([ "$go_version" = none ] || echo ', Go'))"
mkdir -p "$out"
gcc -O2 -static -s -o "$out/demo" "$top/tests/guests/demo.c"
gcc -O2 -static -s -o "$out/attack" "$top/tests/guests/attack.c"
gcc -O2 -static -s -o "$out/inject" "$top/tests/guests/inject.c"
gcc -O2 -static -nostdlib -fno-stack-protector -s -o "$out/true" "$top/tests/guests/true.c"
clang --target=wasm32-wasi -O2 -Wl,--strip-debug -o "$out/demo.wasm" "$top/tests/guests/demo.c"
clang --target=wasm32-wasi -O2 -Wl,--strip-debug -o "$out/linked.wasm" "$top/tests/guests/linked.c"
clang --target=wasm32-wasi -mexec-model=reactor -O2 -Wl,--strip-debug -o "$out/math.wasm" "$top/tests/guests/math.c"
rm -f "$out/hello-go.wasm" "$out/demo-go.wasm"
if [ "$go_version" != none ]; then
  (cd "$top/tests/guests" && GOOS=wasip1 GOARCH=wasm GOFLAGS=-mod=mod GO111MODULE=off \
    go build -trimpath -o "$out/hello-go.wasm" hello.go &&
    GOOS=wasip1 GOARCH=wasm GOFLAGS=-mod=mod GO111MODULE=off go build -trimpath -ldflags -s -o "$out/demo-go.wasm" demo.go) || warn "the Go modules did not build; their tests are skipped"
fi
cp "$top"/tests/guests/*.wat "$out"
rm -f "$out"/{command,command3,http,words,wordsapp}.wasm
if [ "$rust" != none ]; then
  for name in component component3 linked; do
    (cd "$top/tests/guests/$name" && logged "guests $name" env CARGO_TARGET_DIR="$cache/cargo-guests" \
      cargo build --release --locked --target wasm32-wasip2)
  done
  cp "$cache"/cargo-guests/wasm32-wasip2/release/{command,command3,http,words,wordsapp}.wasm "$out"
fi
stamp "guests-${top//\//_}" "$key"
