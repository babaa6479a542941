"""The commands that need no cluster: they read a manifest and say what would be."""
