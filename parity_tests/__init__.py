"""Every runtime against PyTorch: each network, each level of the loop, the final picture.

Three rooms: `produce` runs a runtime over the `cases`, `compare` judges what came out by the `metrics`, `report` says
what was found.
"""
