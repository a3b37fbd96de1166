"""The commands of ``imagewright``, one module each: arguments in, an exit code out."""
