"""Root file systems and layers: unpack, scan, diff, pack, copy. The root is always an argument."""
