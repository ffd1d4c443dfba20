"""The ipywidgets explorers, one file each; every lesson displays its own with one line."""
