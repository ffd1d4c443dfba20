"""The lessons' interactive explorers, built on ipywidgets; each is displayed with one line."""
