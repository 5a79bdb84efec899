"""Broken and hostile input for everything that reads files: `python -m tests.fuzz`, `make fuzz`, `test_fuzz.py`."""
