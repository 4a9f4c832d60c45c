"""The 15 corruptions of ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261)."""

# In the order, and under the short names, of the tables that TTT-MAE and APM print.
SHORT_NAMES = {
    "brightness": "brigh",
    "contrast": "cont",
    "defocus_blur": "defoc",
    "elastic_transform": "elast",
    "fog": "fog",
    "frost": "frost",
    "gaussian_noise": "gauss",
    "glass_blur": "glass",
    "impulse_noise": "impul",
    "jpeg_compression": "jpeg",
    "motion_blur": "motn",
    "pixelate": "pixel",
    "shot_noise": "shot",
    "snow": "snow",
    "zoom_blur": "zoom",
}
