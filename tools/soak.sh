#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# soak.sh [-k WORD]...: the shim under load and among deaths (tests/soak), five minutes: too long for ./dev test, which has a
# few seconds of each (tests/shim/t_load.py). Runs under this Debian's containerd; SOAK_TREE=DIR: in another Debian's tree.
exec "$(dirname "$0")/test.sh" soak "$@"
