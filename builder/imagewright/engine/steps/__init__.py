"""Executors of steps that change files: RUN with its mounts, COPY and ADD."""
