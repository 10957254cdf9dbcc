"""What is shipped: the wheel, the sdist, the editable install, and the lists of dependencies."""
