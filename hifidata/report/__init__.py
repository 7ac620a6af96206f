"""Statistics, HTML report, dataset card and Croissant metadata of a dataset folder."""
