"""Data sets to train on: read, checked, shown, converted."""
