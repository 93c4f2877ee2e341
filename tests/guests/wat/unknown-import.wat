;; Imports an instance nobody has.
(component
  (import "acme:secret/vault@1.0.0" (instance $vault (export "open" (func (result u32)))))
  (core func $open (canon lower (func $vault "open")))
  (core module $guest
    (import "vault" "open" (func $open (result i32)))
    (func (export "run") (result i32) (i32.and (call $open) (i32.const 0))))
  (core instance $guest (instantiate $guest (with "vault" (instance (export "open" (func $open))))))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.6" (instance $exported)))
