"""Stages: their base, their steps in order, and the layers that these make."""
