"""The models that are served: loading, versions, the swap."""
