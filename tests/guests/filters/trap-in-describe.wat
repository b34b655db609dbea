;; filter-describe: the filter trapped: wasm `unreachable` instruction executed
(func $describe (result i32) (unreachable))
