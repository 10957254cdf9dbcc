"""The main job on one machine: watch both roles grow and shrink together without losing a request."""
