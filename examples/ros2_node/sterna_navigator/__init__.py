"""A ROS 2 node around a navigator that sterna exported."""
