"""Sphinx settings; `make docs` builds the pages with warnings as errors."""

from importlib.metadata import version as version_of

project = "napari-distill2label"
author = "napari-distill2label developers"
copyright = f"2026, {author}"
version = release = version_of(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "results"]  # tables that pages include
suppress_warnings = ["toc.empty_glob"]

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_member_order = "bysource"
# Documentation is built without a window: the reference of `gui` needs its names, not its libraries.
autodoc_mock_imports = ["magicgui", "napari", "qtpy", "superqt"]
napoleon_google_docstring = False

html_theme = "furo"
html_title = project
html_theme_options = {"top_of_page_buttons": []}
