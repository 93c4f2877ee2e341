;; Returns a result that is neither good nor bad: a discriminant that the type does not have.
(component
  (core module $guest
    (func (export "run") (result i32) (i32.const 7)))
  (core instance $guest (instantiate $guest))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.6" (instance $exported)))
