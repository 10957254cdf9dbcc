"""How long a fleet's day takes in virtual time."""
