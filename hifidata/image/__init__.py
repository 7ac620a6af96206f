"""Recognise, decode, align, crop, encode and hash images."""
