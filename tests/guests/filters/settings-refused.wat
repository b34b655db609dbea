;; filter-settings: the filter refuses its settings: no
(data (i32.const 256) "no\1b[31m\0a")
(func $validate (param i32 i32) (result i32)
  (i32.store8 (i32.const 128) (i32.const 1))
  (i32.store (i32.const 132) (i32.const 256))
  (i32.store (i32.const 136) (i32.const 8))
  (i32.const 128))
