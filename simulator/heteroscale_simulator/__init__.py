"""A fleet in virtual time: traffic, engines and rival policies around the very core that decides.

See ../README.md for the rooms. Nothing here touches a network or a real clock.
"""
