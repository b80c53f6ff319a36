"""Measurements of fastpool: asv benchmarks (``benchmark_*.py``), and the README's table (``python -m bench.speed``).

``cases`` says what is measured, ``engines`` who computes it, ``timing`` how a time is taken. ``baselines`` holds the
NumPy engines, ``peers`` the other libraries. Both front ends, asv and ``speed``, iterate the same two tables.
``networks`` builds whole networks, which ``latency`` measures (``python -m bench.latency``).
"""
