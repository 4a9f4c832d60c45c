"""The self-supervised APM: a field of features and colours that is asked location by location."""
