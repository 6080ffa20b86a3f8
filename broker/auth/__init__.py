"""Authentication and permissions: tokens, the API key, room rules.

Nothing is imported here: PyJWT brings `cryptography` along, and not every command needs it.
"""
