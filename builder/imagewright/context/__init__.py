"""Build contexts: from a source to a folder."""
