;; filter-trial: the filter answered
(func $evaluate (type $ask)
  (call $answer (call $decide (local.get 8) (local.get 9)) (i32.sub (local.get 9) (i32.const 1))))
