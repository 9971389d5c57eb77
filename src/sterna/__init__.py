"""Sterna: small models that find their way.

Train instruction-following navigators, distil them into small ones and score them exactly.
Importing this package is cheap: each room (`sterna.world`, `sterna.data`, `sterna.models`, ...)
brings its own dependencies when it is imported.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sterna")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"

__all__ = ["__version__"]
