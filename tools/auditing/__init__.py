"""The audit: claims of papers, the runs that test them, and the pages that say what came out."""
