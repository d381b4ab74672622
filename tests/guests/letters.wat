;; SPDX-License-Identifier: Apache-2.0
;; A component that is a library in text: amphora:link/letters of linked/wit.
(component
  (core module $m
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "upper") (param $at i32) (param $size i32) (result i32) (local $i i32) (local $c i32)
      (block $done (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $size)))
        (local.set $c (i32.load8_u (i32.add (local.get $at) (local.get $i))))
        (if (i32.and (i32.ge_u (local.get $c) (i32.const 97)) (i32.le_u (local.get $c) (i32.const 122)))
          (then (i32.store8 (i32.add (local.get $at) (local.get $i)) (i32.sub (local.get $c) (i32.const 32)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
      (i32.store (i32.const 16) (local.get $at))
      (i32.store (i32.const 20) (local.get $size))
      (i32.const 16)))
  (core instance $i (instantiate $m))
  (func $upper (param "text" string) (result string)
    (canon lift (core func $i "upper") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (instance $letters (export "upper" (func $upper)))
  (export "amphora:link/letters@0.1.0" (instance $letters)))
