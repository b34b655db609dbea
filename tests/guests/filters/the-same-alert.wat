;; filter-trial: the filter decided twice on alert 1
(func $change (param $decision i32) (i64.store (local.get $decision) (i64.const 1)))
