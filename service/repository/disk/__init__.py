"""Models and versions on disk: folders, manifests, the record, and whatever changes them."""
