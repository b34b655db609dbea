;; filter-describe: memory
(memory 2048)
