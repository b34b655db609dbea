;; filter-trial: discriminant
(func $change (param $decision i32) (i32.store8 offset=8 (local.get $decision) (i32.const 9)))
