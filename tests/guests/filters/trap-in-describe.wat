;; filter-describe: the filter trapped: wasm trap: wasm `unreachable` instruction executed
(func $describe (result i32) (unreachable))
