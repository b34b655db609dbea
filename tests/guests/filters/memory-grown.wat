;; filter-trial: the filter failed: forcing trap when growing memory
(func $evaluate (type $ask)
  (loop $more
    (memory.fill (i32.mul (i32.sub (memory.size) (i32.const 1)) (i32.const 65536)) (i32.const 1) (i32.const 65536))
    (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
  (unreachable))
