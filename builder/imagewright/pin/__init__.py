"""``imagewright pin``: images that a Dockerfile names by tag are given the digest that the tag has now."""

from imagewright.pin.pinning import Change, Left, Pinned, Resolver, pin

__all__ = ["Change", "Left", "Pinned", "Resolver", "pin"]
