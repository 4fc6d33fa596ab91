"""What administrators do, whoever asks: HTTP or the command line."""
