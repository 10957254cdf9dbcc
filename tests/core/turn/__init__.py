"""The turn as a whole, in a world of virtual time."""
