"""Label Studio's ML backend: what its label configs and tasks say, and our answers in its words."""
