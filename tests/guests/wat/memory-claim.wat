;; Claims a gigabyte of memory before it does anything.
(component
  (core module $guest
    (memory 16384)
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $guest (instantiate $guest))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.6" (instance $exported)))
