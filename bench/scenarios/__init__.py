"""The measurements: one module for each command of `python -m bench`."""
