"""Forked processes: starting them, executing the command, killing what it left behind."""
