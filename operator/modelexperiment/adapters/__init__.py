"""One module for each thing outside."""
