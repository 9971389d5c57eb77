"""Stepping: batched walks on navigation graphs."""
