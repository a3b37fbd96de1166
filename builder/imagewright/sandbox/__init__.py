"""Runs one command in a root file system, isolated as well as the environment allows: modes namespace, root and chroot.

The engine calls ``choose.start`` and uses the ``model.Sandbox`` that it returns; the mode in use only shows in its
``kind`` and ``reason``.
"""
