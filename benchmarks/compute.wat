;; SPDX-License-Identifier: Apache-2.0
;; A second or two of what programs do: integers, floating point, calls, and memory that is read and written.
(module
  (memory (export "memory") 16)
  (func $mix (param $x i64) (result i64)
    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
    (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
    (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
  (func (export "_start")
    (local $n i32) (local $x i64) (local $at i32) (local $f f64)
    (local.set $x (i64.const 88172645463325252))
    (local.set $n (i32.const 300000000))
    (loop $again
      (local.set $x (call $mix (local.get $x)))
      (local.set $at (i32.and (i32.wrap_i64 (local.get $x)) (i32.const 0xffff8)))
      (i64.store (local.get $at) (i64.add (i64.load (local.get $at)) (local.get $x)))
      (local.set $f (f64.add (local.get $f) (f64.sqrt (f64.convert_i32_u (local.get $at)))))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (f64.store (i32.const 0) (local.get $f))))
