"""Runs one command in a root file system, on one of three rungs of isolation."""
