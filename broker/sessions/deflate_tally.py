"""The counts of compression, for metrics."""

import attrs


@attrs.define
class DeflateTally:
    """Counts over all connections of a node with permessage-deflate."""

    connections: int = 0
    """WebSockets that agreed on it."""
    plain_bytes: int = 0
    """Frames that were compressed, before; each once, however many members it is for."""
    compressed_bytes: int = 0
    """These frames, after."""

    def note(self, plain_bytes: int, compressed_bytes: int) -> None:
        """Count a frame."""
        self.plain_bytes += plain_bytes
        self.compressed_bytes += compressed_bytes
