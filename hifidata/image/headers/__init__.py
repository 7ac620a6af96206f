"""Image headers, read before any pixel is decoded."""
