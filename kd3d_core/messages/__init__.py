"""What sensors send, as plain data: nothing here depends on ROS or on a bag library."""
