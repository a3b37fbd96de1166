"""What layers are applied to and COPY writes to: a root file system on disk, or a virtual one."""
