"""Greenroom: real-time rooms over WebSocket and HTTP."""
