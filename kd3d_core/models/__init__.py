"""Models: what a YAML file describes, from an image to points and boxes."""
