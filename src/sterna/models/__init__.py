"""DUET teacher and student, topological map, weights in and out."""
