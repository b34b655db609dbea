;; filter-trial: the filter took more than
(func $evaluate (type $ask) (loop $for-ever (br $for-ever)) (unreachable))
