"""How good the pictures are: metrics, baselines, and the table on the fixed test split."""
