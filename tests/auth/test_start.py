"""What verifies tokens starts without PyJWT and cryptography, where a shared secret signs them."""

import subprocess
import sys

PROGRAM = """
import sys
import broker.process
from broker.auth.tokens import open_verifier
from broker.config.settings import AuthSettings
from broker.transport.tls.credentials import load_credentials
from broker.config.settings import ServerSettings

def heavy():
    return [name for name in ("jwt", "cryptography") if name in sys.modules]

secret = "s" * 40
verifier = open_verifier(AuthSettings(secret=secret), wall_clock=lambda: 1000.0)
assert load_credentials(ServerSettings()) is None

import base64, hmac, json

def token(**header):
    parts = ({"alg": "HS256", **header}, {"sub": "ann", "exp": 2000})
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret.encode(), signed, "sha256")).rstrip(b"=")
    return (signed + b"." + signature).decode()

print(verifier.verify(token()).user_id, heavy())
print(verifier.verify(token(kid="a")).user_id, heavy())
"""


def test_they_are_imported_for_the_first_token_that_is_not_plain() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("ann []\nann ['jwt', 'cryptography']\n", "")
