"""A root file system below a directory: paths resolved inside it, single entries, whole trees, users, mounts."""
