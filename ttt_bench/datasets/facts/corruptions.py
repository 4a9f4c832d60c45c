"""The facts that CIFAR-10-C and ImageNet-C share."""

SELECTION = "[CORRUPTION][@SEVERITY][,...][:generated"
CITATION = (
    "Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and "
    "Perturbations, ICLR 2019, arXiv 1903.12261"
)
