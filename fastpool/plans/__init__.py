"""Plans: frozen decisions, made once per shape: which kernels run, on what blocks, with what scratch."""
