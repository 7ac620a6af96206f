"""Text detectors and recognisers."""
