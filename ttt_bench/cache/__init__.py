"""Results that are made once and kept on disk: features of frozen backbones, images of datasets."""
