"""Methods with one fault each, for the conformance kit to find."""
