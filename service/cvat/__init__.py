"""CVAT's contract for detectors: our answers as its shapes, and the description of the function."""
