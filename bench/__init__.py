"""Benchmarks: a server on one core, a load generator on another, figures with their spread."""
