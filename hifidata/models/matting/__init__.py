"""Portrait matting models."""
