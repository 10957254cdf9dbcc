"""All tests; floors and areas are folders."""
