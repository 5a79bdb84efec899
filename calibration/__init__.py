"""What real photos do to activations: ranges, INT8, the precision plan. Importing this imports no runtime."""
