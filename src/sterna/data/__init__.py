"""Episodes and views in files: readers, writers, feature stores and checks."""
