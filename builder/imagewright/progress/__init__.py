"""What people and machines see of a running build: plain lines, a live display, or JSON lines.

Each is a ``progress.display.Display``. Called by ``cli``, which chooses.
"""
