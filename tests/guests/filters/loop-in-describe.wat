;; filter-describe: the filter took more than
(func $describe (result i32) (loop $for-ever (br $for-ever)) (unreachable))
