;; filter-trial: the filter took more than
(import "lanner:platform/logging@0.1.0" "log" (func $log (param i32 i32 i32)))
(func $evaluate (type $ask)
  (loop $more (call $log (i32.const 1) (i32.const 0) (i32.const 60000)) (br $more))
  (unreachable))
