"""Settings of the documentation site; scripts/docs.sh builds it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import dskrobust

project = "dskrobust"
author = "dskrobust developers"
copyright = author
release = version = dskrobust.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_copybutton",
    "site_pages",
]
exclude_patterns = ["results", "paper", "experiments", "changes", "_build"]

# Notebooks are shown as they are kept: tests run them, building does not.
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more: shapes, dtypes, units
numpydoc_show_class_members = False
default_role = "py:obj"
add_module_names = False

# A function or method that is named wrongly is an error. The types of parameters are prose.
nitpicky = True
nitpick_ignore_regex = [("py:(class|exc|obj|data|attr)", ".*")]

smartquotes = False  # -- is an option
html_theme = "furo"
html_title = "dskrobust"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
