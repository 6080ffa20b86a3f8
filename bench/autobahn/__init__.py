"""Runs the Autobahn test suite against the broker's transport, where the suite is installed."""
