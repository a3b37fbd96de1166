"""The sandbox modes: ``namespace``, and ``root`` and ``chroot``, which have no namespaces."""
