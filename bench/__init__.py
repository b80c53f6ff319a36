"""Measurements of fastpool: asv benchmarks, a glance by pytest-benchmark, tables against others, a gate for commits.

``cases`` says what is measured, ``timing`` how a time is taken, ``machine`` and ``limits`` on what; these modules are
those of ``fastpool bench``. They are taken from the checkout that this file is in, while ``import fastpool`` gives the
installed package, which may be another commit's. ``engines`` says who computes a case: ``baselines`` holds NumPy's
ways, ``peers`` the other libraries. All front ends iterate these tables.
``networks`` builds whole networks, which ``latency`` measures (``python -m bench.latency``).
"""

from pathlib import Path

__path__.append(str(Path(__file__).resolve().parent.parent / "fastpool" / "measuring"))
