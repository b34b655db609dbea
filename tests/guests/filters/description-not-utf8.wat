;; filter-describe: utf-8
(data (i32.const 256) "\ff\fe\c0")
(func $describe (result i32)
  (i32.store (i32.const 64) (i32.const 256))
  (i32.store (i32.const 68) (i32.const 3))
  (i32.const 64))
