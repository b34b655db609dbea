;; filter-describe: the filter took more than
(func $begin (loop $for-ever (br $for-ever)))
(start $begin)
