"""The name and colour of each server in plots."""

NAMES = {
    "greenroom": "Greenroom",
    "greenroom_sqlite": "Greenroom, SQLite",
    "greenroom_redis": "Greenroom, Redis",
    "fastapi_seed": "FastAPI room",
    "websockets_broadcast": "websockets",
    "picows_rooms": "picows",
    "socketio_rooms": "python-socketio",
    "node_ws": "Node ws",
    "c_epoll": "plain C",
    "centrifugo": "Centrifugo",
    "centrifugo_redis": "Centrifugo, Redis",
}

_COLOURS = {
    "greenroom": "#16a34a",
    "greenroom_sqlite": "#65a30d",
    "greenroom_redis": "#0f766e",
    "fastapi_seed": "#2f81f7",
    "websockets_broadcast": "#d97706",
    "picows_rooms": "#c026d3",
    "socketio_rooms": "#dc2626",
    "node_ws": "#0d9488",
    "c_epoll": "#7c8698",
    "centrifugo": "#be123c",
    "centrifugo_redis": "#9f1239",
}


def name_of(server: str) -> str:
    """Return what a reader knows the server by."""
    return NAMES.get(server, server)


def colour_of(server: str) -> str:
    """Return its colour, which is told apart from the others on light and on dark."""
    return _COLOURS.get(server, "#8b5cf6")
