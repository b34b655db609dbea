;; filter-compile: memory
(memory 65536)
