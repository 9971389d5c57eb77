"""The rules of rooms: which things stand in each kind, and where people would look for them."""
