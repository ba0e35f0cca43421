"""A candidate in the shadow of the current version: it answers too, for comparison alone."""
