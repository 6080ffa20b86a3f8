"""The limit that ends a test which hangs."""

PATIENCE_SECONDS = 120.0
"""No test that passes comes near it, on however busy a machine: it bounds a failure, and measures nothing."""
