"""The commands, one module each: ``run`` takes the parsed options and returns the exit code."""
