"""Sphinx's settings: `make docs`."""
project = "BERT pre-training study"
html_title = project
extensions = ["myst_parser"]
myst_heading_anchors = 2                    # so that pages can link to the headings of others, as on a code host
html_theme = "furo"
html_copy_source = html_show_sourcelink = html_show_copyright = html_show_sphinx = False
