;; SPDX-License-Identifier: Apache-2.0
;; A trap two named functions deep, for the backtrace.
(module $trap
  (func $inner unreachable)
  (func $outer (call $inner))
  (func (export "_start") (call $outer)))
