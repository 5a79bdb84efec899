"""How weights come to be: data sources, scenes, renderer, losses and fits."""
