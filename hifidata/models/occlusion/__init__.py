"""Occlusion checkers."""
