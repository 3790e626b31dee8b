"""The backend contract, artifacts and their lineage, the registry."""
