"""What `tests/bench/run` is made of: the tools that are compared, their workloads, trees, times and the table."""
