"""The page at `/`, and what it asks for."""
