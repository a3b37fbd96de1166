"""Interfaces of the kernel that sandboxes use: system calls, id maps, memory accounting."""
