;; filter-describe: the filter trapped: wasm `unreachable` instruction executed
(func $begin (unreachable))
(start $begin)
