"""What is mounted for a command: by the kernel, or emulated where nothing can be mounted."""
