"""Plans: frozen decisions, made once per shape and cached, that say which kernels run, on what blocks, with what scratch."""
