"""The runner, a process that runs commands: the engine's side, and its own."""
