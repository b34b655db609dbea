;; filter-trial: the filter trapped: wasm trap: wasm `unreachable` instruction executed
(func $evaluate (type $ask) (unreachable))
