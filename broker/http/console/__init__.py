"""The console at `/`, its data, and the browser client."""
