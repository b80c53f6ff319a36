"""What `fastpool bench` and the benchmarks of the repository share: cases, times, limits of the machine, verdicts.

Each module stands alone and imports the rest of the package only where it measures it: the repository's benchmarks load
these very files, but measure whichever fastpool is installed, be it an older one.
"""
