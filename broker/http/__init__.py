"""The HTTP side: the API, health and metrics, and the page."""
