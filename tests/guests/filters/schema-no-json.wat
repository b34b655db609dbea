;; filter-describe: its settings schema is no JSON
(data (i32.const 256) "{]")
(func $describe (result i32)
  (i32.store (i32.const 96) (i32.const 256))
  (i32.store (i32.const 100) (i32.const 2))
  (i32.const 64))
