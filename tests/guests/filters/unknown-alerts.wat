;; filter-trial: the filter decided twice on alert 1000001, or was not asked about it
(func $change (param $decision i32)
  (i64.store (local.get $decision) (i64.add (i64.load (local.get $decision)) (i64.const 1000000))))
