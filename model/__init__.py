"""The DeepLens networks in PyTorch and the contract that each keeps. Importing this package does not import torch."""
