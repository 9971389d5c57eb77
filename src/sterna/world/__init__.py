"""Where an agent stands: navigation graphs and the geometry of views."""
