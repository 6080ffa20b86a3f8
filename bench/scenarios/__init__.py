"""What is measured: one module for each command of `python -m bench`."""
