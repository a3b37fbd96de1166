"""What the kernel offers to sandboxes: system calls, id maps, memory accounting."""
