"""The command line: flags, progress, exit codes."""
