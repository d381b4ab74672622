#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# child_symbols.sh LIBRARY: what the child (executor/init) asks of others must be in the list below:
# nothing that allocates, throws, logs, locks or touches libc's state (docs/process-model.md).
set -eu
library=$1
allowed='
memcpy
memset
memmove
memcmp
strlen
__stack_chk_fail
_GLOBAL_OFFSET_TABLE_
'
defined=$(nm --defined-only -g "$library" 2>/dev/null | awk 'NF == 3 {print $3}' | sort -u)
bad=$(nm -u "$library" | awk '$1 == "U" {print $2}' | sort -u |
  grep -vxF -e "$defined" | grep -vxF -e "$allowed" || true)
if [ -n "$bad" ]; then
  echo "$library needs symbols that the child may not use:"
  echo "$bad" | c++filt | sed 's/^/  /'
  exit 1
fi
