"""HiFi-Portrait: trains on identity shards, and makes portraits from one to four reference photos."""
