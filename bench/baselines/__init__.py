"""Servers that Greenroom is measured against, each a program of its own."""
