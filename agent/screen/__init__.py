"""What things look like on a terminal."""
