"""Generating portraits."""
