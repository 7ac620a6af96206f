"""Tables of URLs: reading, checking and indexing them."""
