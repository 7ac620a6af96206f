"""Bytes to pixels and back: sniff, decode, crop, encode, perceptual hash."""
