"""What the real server refuses with 422, and what it fills in."""
