"""The commands that belong to no single room. Each other command stands in the room whose work it starts."""
