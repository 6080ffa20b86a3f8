"""The data of the console at `/`. Only the traffic is gathered while no console is open."""

import attrs
from quart import Blueprint, Response

from broker.auth.api_keys import READ
from broker.http.api.models import answer
from broker.http.api.operations import operation
from broker.http.bodies import read_query
from broker.http.nodes.cluster import ClusterView
from broker.http.nodes.states import NodeQuery, NodeState
from broker.http.problems import Problem, ProblemError
from broker.http.services import HttpServices


@attrs.frozen
class NodeRoutes:
    """The route for the state of one node, or of all."""

    services: HttpServices

    def add_to(self, api: Blueprint) -> None:
        """Add the route to a blueprint below /api."""
        api.add_url_rule("/node", view_func=self.node, methods=["GET"])

    @operation(query=NodeQuery, response=NodeState, need=READ)
    async def node(self) -> Response:
        """Give the state of a node: its rooms, engine, slow readers, and traffic of the last minutes.

        `nodes` lists all nodes that share the engine, and all workers of this machine. Without `node` it is the node
        that took the connection; `node=all` puts all of them together. Ask again each second with `since`, the number
        of the last traffic point that came.
        """
        query = read_query(NodeQuery)
        state = await ClusterView(self.services).gather(query)
        if state is None:
            raise ProblemError(Problem.of(404, f"no node {query.node} has answered"))
        return answer(state)
