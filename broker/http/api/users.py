"""Users over HTTP: who is online, and an end to their connections."""

import attrs
from quart import Blueprint, Response

from broker.auth.api_keys import ADMIN, READ
from broker.errors import CloseCode
from broker.http.api.models import (
    Disconnected,
    OnlineUser,
    UserConnections,
    UserPage,
    UserRoom,
    UsersQuery,
    answer,
)
from broker.http.api.operations import operation
from broker.http.bodies import read_query
from broker.http.deadlines import answer_within
from broker.http.nodes.questions import UsersQuestion
from broker.http.nodes.users import find_online_users
from broker.http.services import HttpServices


@attrs.frozen
class UserRoutes:
    """The routes for users, whatever rooms they are in."""

    services: HttpServices

    def add_to(self, api: Blueprint) -> None:
        """Add the routes to a blueprint below /api."""
        api.add_url_rule("/users", view_func=self.list_users, methods=["GET"])
        api.add_url_rule("/users/<user>", view_func=self.inspect_user, methods=["GET"])
        api.add_url_rule("/users/<user>", view_func=self.disconnect, methods=["DELETE"])

    @operation(query=UsersQuery, response=UserPage, need=READ)
    async def list_users(self) -> Response:
        """List the users who are online, by their ids.

        These are the users with open connections, on all nodes, in whatever rooms or in none. Nodes that do not answer
        within a second are counted in `silent_nodes`; their users are missing.
        """
        query = read_query(UsersQuery)
        # One more than asked for shows whether there is another page.
        question = UsersQuestion(prefix=query.prefix, after=query.cursor, limit=query.limit + 1)
        online = await find_online_users(self.services, question)
        page = [UserConnections(user_id, count) for user_id, count in online.counts[: query.limit]]
        cursor = page[-1].user_id if len(online.counts) > query.limit else None
        return answer(UserPage(page, cursor, online.silent_nodes))

    @operation(response=OnlineUser, need=READ)
    async def inspect_user(self, user: str) -> Response:
        """Tell how many connections a user has, on all nodes, and in which rooms; 0 if the user is not online.

        The user and the rooms notice nothing of the request.
        """
        online = await find_online_users(self.services, UsersQuestion(user_id=user))
        count = dict(online.counts).get(user, 0)
        rooms = [UserRoom(room, connections) for room, connections in online.rooms]
        return answer(OnlineUser(user, count, online.silent_nodes, rooms))

    @operation(response=Disconnected, need=ADMIN)
    async def disconnect(self, user: str) -> Response:
        """Close all connections of a user with 4004, after which clients do not reconnect.

        On all nodes, counted just before; nodes that do not answer within `http.nodes_seconds` are counted in
        `silent_nodes`, and close theirs all the same.
        """
        online = await find_online_users(self.services, UsersQuestion(user_id=user))
        self.services.connections.disconnect_user(user, CloseCode.REMOVED, "removed by the application")
        presence = self.services.engine.presence
        if presence is not None:
            with answer_within(self.services.settings.http.request_seconds):
                await presence.close_user(user)
        return answer(Disconnected(dict(online.counts).get(user, 0), online.silent_nodes))
