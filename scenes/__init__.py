"""Synthetic truth: scenes, renderers, and the photos and models that they are made of."""
