"""Forked processes: starting them, becoming the command, ending what a command left behind."""
