"""The process that runs commands: the engine's side of it, and its own."""
