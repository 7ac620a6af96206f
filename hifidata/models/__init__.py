"""The models behind the stages; the only package that imports model libraries."""
