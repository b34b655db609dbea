;; filter-compile: table
(table 4294967295 funcref)
