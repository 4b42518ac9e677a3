"""How long a model takes for an image, and the chain that a user would write without kd3d."""
