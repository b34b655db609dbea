;; filter-describe: its settings schema has 70000 bytes
(memory 4)
(func $describe (result i32)
  (memory.fill (i32.const 256) (i32.const 32) (i32.const 70000))
  (i32.store (i32.const 96) (i32.const 256))
  (i32.store (i32.const 100) (i32.const 70000))
  (i32.const 64))
