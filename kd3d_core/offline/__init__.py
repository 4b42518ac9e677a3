"""Detection without ROS: images from files and bags in, whatever shows or keeps results out."""
