"""The commands that are added to `flask`."""
