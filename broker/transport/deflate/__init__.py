"""permessage-deflate (RFC 7692): agreed on in the handshake, and without context takeover in either direction."""
