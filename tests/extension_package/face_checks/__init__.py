"""A quality model and a stage for hifidata."""
