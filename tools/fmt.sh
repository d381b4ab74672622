#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Formats all C++ of the tree in place.
. "$(dirname "$0")/lib.sh"
command -v clang-format-19 >/dev/null || die "clang-format-19 is missing: ./dev setup"
cd "$top"
git ls-files -co --exclude-standard -- '*.cc' '*.h' '*.c' | xargs clang-format-19 -i
