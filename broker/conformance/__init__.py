"""The conformance kit: plays a server, by one script for each case, that a client under test must survive.

`cases` has the scripts, made of `steps`; `stage` plays one with a client. docs/conformance.md is for the authors of clients.
"""
