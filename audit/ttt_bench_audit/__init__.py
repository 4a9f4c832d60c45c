"""Methods and a dataset for the audit alone: none of them is for use."""
