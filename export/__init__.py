"""PyTorch → artefact: one module a target, and the manifest of what was made. Importing this does not import torch."""
