"""What people and machines see of a running build: plain lines, a live display, or JSON lines.

Each implements ``engine.events.Reporter``. Called by ``cli``, which chooses.
"""
