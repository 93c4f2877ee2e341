;; Grows its table for ever.
(component
  (core module $guest
    (table $table 1 funcref)
    (func (export "run") (result i32)
      (loop $again
        (drop (table.grow $table (ref.null func) (i32.const 5000)))
        (br $again))
      (i32.const 0)))
  (core instance $guest (instantiate $guest))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.6" (instance $exported)))
