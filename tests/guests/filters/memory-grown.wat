;; filter-trial: the filter trapped: wasm trap: wasm `unreachable` instruction executed
(func $evaluate (type $ask)
  (loop $more
    (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
  (memory.fill (i32.const 0) (i32.const 1) (i32.mul (i32.sub (memory.size) (i32.const 1)) (i32.const 65536)))
  (unreachable))
