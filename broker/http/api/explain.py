"""Why a user may or may not do something in a room, over HTTP."""

from typing import Annotated

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType
from quart import Blueprint, Response

from broker.auth.api_keys import READ
from broker.auth.permissions import Decision, Ground
from broker.errors import ErrorCode, Refused
from broker.http.api.models import SilentNodes, answer
from broker.http.api.operations import operation
from broker.http.bodies import read_query
from broker.http.exchange import this_request
from broker.http.nodes.explaining import Explaining, explain_everywhere
from broker.http.nodes.explanation import NodeExplanation, Permission, TokenVerdict
from broker.http.nodes.questions import ExplainQuestion, pack_question
from broker.http.services import HttpServices
from broker.model import Claims, check_room_name

TOKEN_HEADER = "Greenroom-Token"  # noqa: S105  # the name of a header


class ExplainQuery(msgspec.Struct, frozen=True):
    """The room, which is needed, and the user, unless there is a token."""

    room: str = ""
    user: Annotated[str, Meta(description="the user's id")] = ""


class ExplainHeaders(msgspec.Struct, frozen=True, rename={"token": TOKEN_HEADER}):
    """A token in question; a header, as addresses are logged by proxies."""

    token: Annotated[str | UnsetType, Meta(description="a client token")] = UNSET


class Explanation(msgspec.Struct, frozen=True):
    """The decisions about a user or a token in a room, and what each node knows of the user."""

    room: str
    user_id: Annotated[
        str | None, Meta(description="null if no user was given and the token is not accepted")
    ]
    token: Annotated[TokenVerdict | None, Meta(description="null if none was given")]
    permissions: Annotated[
        list[Permission],
        Meta(description="by the token; without one, of a token that has neither `rooms` nor `can`"),
    ]
    nodes: list[NodeExplanation]
    silent_nodes: SilentNodes


@attrs.frozen
class ExplainRoutes:
    """The route that explains decisions."""

    services: HttpServices

    def add_to(self, api: Blueprint) -> None:
        """Add the route to a blueprint below /api."""
        api.add_url_rule("/explain", view_func=self.explain, methods=["GET"])

    @operation(query=ExplainQuery, headers=ExplainHeaders, response=Explanation, need=READ)
    async def explain(self) -> Response:
        """Tell what a user, or the bearer of a token, may do in a room and why, and where the user is connected.

        The decisions are made by the code that decides joins and requests; hooks are named, but not asked. Nobody notices
        anything of the request, and nothing is started. Nodes that do not answer within a second are counted in
        `silent_nodes`; what they know is missing.
        """
        query = read_query(ExplainQuery)
        room = check_room_name(query.room)
        explaining = Explaining(self.services)
        token = this_request().headers.get(TOKEN_HEADER)
        user_id = query.user or None
        if token is None and user_id is None:
            raise Refused(ErrorCode.INVALID_MESSAGE, f"user: needed without a token ({TOKEN_HEADER})")
        verdict = claims = None
        if token is not None:
            verdict, claims = explaining.judge(token)
        elif user_id is not None:
            claims = Claims(user_id, issued_at=self.services.wall_clock())
        if claims is not None:
            if user_id not in {None, claims.user_id}:
                raise Refused(ErrorCode.INVALID_MESSAGE, "user: not the one of the token (claim sub)")
            user_id = claims.user_id
            permissions = explaining.permissions(claims, room)
        else:
            detail = None if verdict is None else verdict.detail
            permissions = explaining.none_of(Decision(Ground.TOKEN, detail))
        nodes: list[NodeExplanation] = []
        silent = 0
        if user_id is not None:
            question = pack_question(ExplainQuestion(user_id, room))
            nodes, silent = await explain_everywhere(self.services, question, user_id, room)
        return answer(Explanation(room, user_id, verdict, permissions, nodes, silent))
