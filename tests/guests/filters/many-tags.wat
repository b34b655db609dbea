;; filter-trial: tag
(func $change (param $decision i32)
  (i32.store offset=20 (local.get $decision) (i32.const 1024))
  (i32.store offset=24 (local.get $decision) (i32.const 17)))
