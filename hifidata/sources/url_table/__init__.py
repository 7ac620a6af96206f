"""Read, check and index tables of URLs."""
