;; filter-settings: utf-8
(data (i32.const 256) "\ff\fe\c0")
(func $validate (param i32 i32) (result i32)
  (i32.store8 (i32.const 128) (i32.const 1))
  (i32.store (i32.const 132) (i32.const 256))
  (i32.store (i32.const 136) (i32.const 3))
  (i32.const 128))
