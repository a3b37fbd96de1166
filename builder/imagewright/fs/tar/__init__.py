"""The tar format and its compression: reading and writing archives as streams. No file system."""
