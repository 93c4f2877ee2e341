;; Imports an instance nobody has, and exports it as a command.
(component
  (import "acme:secret/vault@1.0.0" (instance $vault (export "run" (func (result (result))))))
  (export "wasi:cli/run@0.2.6" (instance $vault)))
