"""The tar format and its compression: archives read and written as streams, without a file system."""
