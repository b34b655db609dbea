;; filter-settings: it broke on them: the filter trapped: wasm `unreachable` instruction executed
(func $validate (param i32 i32) (result i32) (unreachable))
