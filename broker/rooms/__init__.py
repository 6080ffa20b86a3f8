"""Rooms: one actor each, which alone knows its members and fans out what is said."""
