;; filter-trial: out of bounds
(func $evaluate (type $ask) (call $answer (i32.const 64) (i32.const 0x7ffffff)))
