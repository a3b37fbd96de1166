"""Mounts for commands: real ones, and emulated ones where mounting is not permitted."""
