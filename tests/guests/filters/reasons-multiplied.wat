;; filter-trial: fuel
;; Every decision points to the same mebibyte, so that little memory here would be much there.
(memory 40)
(func $change (param $decision i32)
  (i32.store offset=12 (local.get $decision) (i32.const 0x100000))
  (i32.store offset=16 (local.get $decision) (i32.const 0x100000)))
