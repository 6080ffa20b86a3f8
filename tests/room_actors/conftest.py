"""The fixtures of the pytest plugin, also where this tree is not installed."""

import pytest

from _greenroom_pytest import (
    _greenroom_world_in_loop,
    greenroom_rooms,
    greenroom_settings,
    greenroom_world,
)
from broker.testing import World

__all__ = ["_greenroom_world_in_loop", "greenroom_rooms", "greenroom_settings", "greenroom_world"]


@pytest.fixture
def world(greenroom_world: World) -> World:
    return greenroom_world
