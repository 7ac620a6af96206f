"""Preparation of photos: the faces that are input to the networks."""
