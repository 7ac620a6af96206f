"""Readers of image headers, used before any pixel is decoded."""
