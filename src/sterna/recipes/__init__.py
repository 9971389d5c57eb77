"""Recipes: each function returns the full, typed configuration of a run."""
