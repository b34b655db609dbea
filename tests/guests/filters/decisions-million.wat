;; filter-trial: fuel
(memory 600)
(func $evaluate (type $ask) (call $answer (i32.const 0x100000) (i32.const 1000000)))
