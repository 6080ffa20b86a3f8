"""Settings, and how they are found: file, environment, flags."""
