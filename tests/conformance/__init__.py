"""What every exchange must do, over every wire."""
