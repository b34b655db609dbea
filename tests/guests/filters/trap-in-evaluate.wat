;; filter-trial: the filter trapped: wasm `unreachable` instruction executed
(func $evaluate (type $ask) (unreachable))
