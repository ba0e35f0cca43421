"""The parts of ``benchmarks/soak.py``; the tests run the same parts on a fake detector."""
