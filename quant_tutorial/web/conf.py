"""Sphinx settings for the web edition; `build` runs Sphinx on the output of `sources`."""

import sys
from pathlib import Path

# jsonschema, which myst-nb loads, would first build dozens of parsers for the addresses of RFC 3987
# (two seconds), a format that no notebook's schema asks for.
sys.modules.setdefault("rfc3987_syntax", None)

HERE = Path(__file__).parent

project = "Neural-network quantization in TensorFlow"
extensions = [
    "myst_nb",
    "sphinx.ext.githubpages",  # writes .nojekyll, without which such a host leaves out _static
    "quant_tutorial.web.mathml",
    "quant_tutorial.web.collapsing",
]
root_doc = "index"
html_title = project
html_theme = "sphinx_book_theme"
html_theme_options = {
    "navbar_persistent": [],  # the search field is in the sidebar
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "footer_content_items": [],
    "use_download_button": False,  # a notebook needs the rest of the project
}
html_context = {"default_mode": "auto"}  # without it the theme logs an error when first opened
html_static_path = [str(HERE / "static")]
html_favicon = str(HERE / "static" / "icon.svg")  # without one a browser asks the host for one
html_css_files = ["site.css", "reader.css", "live.css"]
html_js_files = [("stepper.js", {"defer": "defer"}), ("reading.js", {"defer": "defer"})]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_show_search_summary = False  # needs a fetch, which browsers refuse for file://
html_use_index = False
html_last_updated_fmt = None

# The committed outputs are shown, because these are the ones that the tests have compared.
nb_execution_mode = "off"
# Nothing is fetched when a page is read: no widget manager, no MathJax.
nb_ipywidgets_js = {}
html_math_renderer = "mathml"
myst_update_mathjax = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_heading_slug_func = "quant_tutorial.web.sources.anchor"
