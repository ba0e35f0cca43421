"""Parts of a picture that the model sees as images of their own: a region, or overlapping tiles."""
