"""Layers: what a step changed, packed as a tar; layers of images, applied to a root file system."""
