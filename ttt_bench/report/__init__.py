"""Reports of results: tables, figures and a page, in every format."""
