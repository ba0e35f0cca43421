"""What ``benchmarks/gpu.py`` checks and times, a file for each question."""
