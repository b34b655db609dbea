;; filter-trial: utf-8
(data (i32.const 256) "\ff\fe\c0")
(func $change (param $decision i32)
  (i32.store offset=12 (local.get $decision) (i32.const 256))
  (i32.store offset=16 (local.get $decision) (i32.const 3)))
