"""Faults: bad sources, options and files, mutations, kills and full disks, seeded.

`pytest tests/faults` draws a part of them; `python tests/faults/full.py` all, and writes what it
counted into benchmarks/RESULTS.md.
"""
