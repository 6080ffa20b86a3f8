"""A client of one Redis server: connections, requests, subscriptions."""
