"""Statistics, the HTML report, the dataset card and Croissant metadata; sees the schema and the store alone."""
