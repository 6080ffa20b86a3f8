"""Files for browsers; the server gives them out as they are."""
