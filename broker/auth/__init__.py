"""Who may connect and what they may do: tokens, the API key, room permissions.

Nothing is imported here: PyJWT brings `cryptography` along, and not every command needs it.
"""
