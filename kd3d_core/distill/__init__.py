"""Knowledge distillation: what a frozen teacher on true LiDAR tells a student on one camera."""
