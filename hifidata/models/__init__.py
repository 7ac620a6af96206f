"""The models behind the stages. Only this package imports model libraries."""
