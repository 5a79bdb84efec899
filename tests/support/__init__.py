"""What several test files stand on: stand-ins, tiny networks, made files."""
