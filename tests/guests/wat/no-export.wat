;; Exports nothing that can be run.
(component)
