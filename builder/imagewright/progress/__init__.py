"""Displays of a running build: plain lines, a live terminal display, JSON lines."""
