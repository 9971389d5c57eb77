"""Demonstrations of manipulation tasks: written a task at a time, read memory-mapped."""
