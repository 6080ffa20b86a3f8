"""The secrets of servers under test: good enough that no server refuses them."""

SECRET = "gVw3yTqOJ5hTnE0fXb2kRzLsM8uPcDiA"
API_KEY = "k7Qx2mWv9RbTz4Ls"
ENVIRON = {"GREENROOM_SECRET": SECRET, "GREENROOM_API_KEY": API_KEY}
"""The variables that give them to a server."""
