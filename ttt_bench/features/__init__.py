"""Inputs of a method, sooner: decoded samples, prefetched pixels and cached backbone features."""
