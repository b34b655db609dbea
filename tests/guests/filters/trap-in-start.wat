;; filter-describe: the filter trapped: wasm trap: wasm `unreachable` instruction executed
(func $begin (unreachable))
(start $begin)
