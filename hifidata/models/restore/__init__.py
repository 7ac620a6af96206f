"""Face restorers."""
