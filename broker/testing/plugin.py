"""The fixtures of pytest, for a `conftest.py` that names this plugin; pytest finds them without, by their entry point."""

from _greenroom_pytest import (
    fake_async_publisher,
    fake_publisher,
    greenroom,
    greenroom_rooms,
    greenroom_settings,
)

__all__ = ["fake_async_publisher", "fake_publisher", "greenroom", "greenroom_rooms", "greenroom_settings"]
