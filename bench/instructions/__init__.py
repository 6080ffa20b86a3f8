"""Counts instructions of a fixed script instead of seconds: the same on a busy machine as on an idle one."""
