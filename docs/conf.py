"""Sphinx's settings: `make docs`."""
project = "BERT pre-training study"
html_title = project
extensions = ["myst_parser"]
html_theme = "furo"
html_copy_source = html_show_sourcelink = html_show_copyright = html_show_sphinx = False
