"""What the workers of a machine ask each other, and how each answers."""

import attrs
import msgspec

from broker.http.scrape import pack_metrics
from broker.http.services import HttpServices


class MetricsQuestion(msgspec.Struct, frozen=True, tag="metrics"):
    """Asks for the metrics of a worker."""


_decoder = msgspec.json.Decoder(MetricsQuestion)


def pack_question(question: MetricsQuestion) -> bytes:
    """Return a question as it is sent."""
    return msgspec.json.encode(question)


@attrs.frozen
class NodeAnswers:
    """Answers for this node."""

    services: HttpServices

    async def answer(self, packed: bytes) -> bytes:
        """Answer a question; one that is not understood, as of another version, with nothing."""
        try:
            _decoder.decode(packed)
        except msgspec.MsgspecError:
            return b""
        return self.metrics()

    def metrics(self) -> bytes:
        """Return the metrics of this worker."""
        return pack_metrics((self.services.metrics, self.services.requests.registry))
