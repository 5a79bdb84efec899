"""How fast, how large, and how well the machine is used."""
