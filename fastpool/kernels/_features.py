"""What Numba and LLVM say of the processor, which is what they emit code for, and what settings say otherwise."""

from __future__ import annotations

import llvmlite.binding as llvm
from numba.core import config


def features() -> dict[str, str]:
    """``kind`` ("x86" or "other"), ``name`` and ``features`` of the processor, as Numba's settings limit them."""
    if config.CPU_FEATURES is not None:
        # The tiles must follow the limit, or a test of a narrower vector would silently measure the wide one.
        found = {f[1:] for f in config.CPU_FEATURES.split(",") if f.startswith("+")}
    else:
        try:
            found = {f for f, present in llvm.get_host_cpu_features().items() if present}
        except RuntimeError:  # LLVM does not know how to ask this processor
            found = set()
    if not config.ENABLE_AVX:  # Numba then takes them from the processor
        found = {f for f in found if not f.startswith(("avx", "fma"))}
    is_x86 = llvm.get_process_triple().startswith(("x86_64", "i386", "i686"))
    return {
        "kind": "x86" if is_x86 else "other",
        "name": config.CPU_NAME or llvm.get_host_cpu_name(),
        "features": " ".join(sorted(found)),
    }


def are_settings_of_environment() -> bool:
    """Whether a new process with these environment variables would have the settings of this one.

    A program may change them in `numba.config`: what it then compiles is not for others.
    """
    names = {name for name in vars(config) if name.isupper()}
    here = {name: getattr(config, name) for name in names}
    try:
        config._EnvReloader().update(force=True)
        there = {name: getattr(config, name) for name in names}
    finally:
        vars(config).update(here)
    return all(str(here[name]) == str(there[name]) for name in names)
