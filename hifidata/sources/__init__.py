"""Where candidates come from: folders, shards, tables of URLs, people's names."""
