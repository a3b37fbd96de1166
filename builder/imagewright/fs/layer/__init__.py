"""Layers: changes of a step found and packed as a tar; layers of images applied to a root file system."""
