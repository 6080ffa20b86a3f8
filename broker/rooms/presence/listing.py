"""Lists of a room's members, as they are asked for. Pure."""

from collections.abc import Iterable

import msgspec

from broker.model import PresenceBy, Shown
from broker.notices import PresenceList, RequestId
from broker.rooms.presence.batch import data_bytes
from broker.rooms.presence.room_presence import RoomPresence


def list_members(
    presence: RoomPresence, by: PresenceBy, most_data_bytes: int, request_id: RequestId = None
) -> PresenceList:
    """Return the members of a room on all nodes; beyond `most_data_bytes`, their info and state are left out."""
    room, size = presence.room, presence.size
    match by:
        case PresenceBy.COUNT:
            return PresenceList(room, size, request_id=request_id, user_count=presence.count_users())
        case PresenceBy.USER:
            infos: dict[str, bytes] = {}
            all_infos = presence.infos()
            for user_id, info in all_infos.items():
                most_data_bytes -= len(info)
                if most_data_bytes < 0:
                    break
                infos[user_id] = info
            is_partial = len(infos) < len(all_infos)
            return PresenceList(room, size, presence.users(), request_id, infos=infos, is_partial=is_partial)
        case PresenceBy.CONNECTION:
            connections, is_partial = _within(presence.connections(), most_data_bytes)
            return PresenceList(
                room, size, request_id=request_id, connections=connections, is_partial=is_partial
            )


def _within(members: Iterable[Shown], most_data_bytes: int) -> tuple[tuple[Shown, ...], bool]:
    """Return the members, those beyond `most_data_bytes` without their data, and whether there are such."""
    found: list[Shown] = []
    is_partial = False
    for shown in members:
        most_data_bytes -= data_bytes(shown)
        if most_data_bytes < 0 and shown.has_data:
            is_partial = True
            found.append(msgspec.structs.replace(shown, info=None, state=None))
        else:
            found.append(shown)
    return tuple(found), is_partial
