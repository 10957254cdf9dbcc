"""The coordinator: ``core`` decides, ``edge`` touches the world, ``loop`` is the one writer."""
