"""Pictures of what a detector sees: plain functions from arrays to RGB images."""
