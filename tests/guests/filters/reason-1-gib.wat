;; filter-trial: out of bounds
(func $change (param $decision i32) (i32.store offset=16 (local.get $decision) (i32.const 0x40000000)))
