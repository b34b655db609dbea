;; filter-trial: the filter answered
(func $evaluate (type $ask)
  (call $answer (call $decide (call $alerts (local.get 0)) (call $count (local.get 0))) (i32.sub (call $count (local.get 0)) (i32.const 1))))
