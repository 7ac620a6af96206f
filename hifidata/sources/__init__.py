"""Sources of candidates: folders, shards, tables of URLs, names to search for."""
