"""`soak`: everything that goes wrong with clients, for minutes, and whether a server is then as it was before."""
