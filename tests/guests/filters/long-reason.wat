;; filter-trial: reason
(func $change (param $decision i32) (i32.store offset=16 (local.get $decision) (i32.const 1025)))
