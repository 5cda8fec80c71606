"""A trained network at work: released models, images of any size, files, export."""
