"""Rooms: one actor each, which alone knows its members, and fans out events and notices to them."""
