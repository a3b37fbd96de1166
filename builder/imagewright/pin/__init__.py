"""``imagewright pin``: adds the current digest of its tag to each image in a Dockerfile."""
