"""What is measured, defined once: attainment, GPU-hours, cost, and the limits they are held against."""
