"""Training losses (Eq. 6 to 8)."""
